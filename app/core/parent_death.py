"""End a process together with its parent; also a program that starts another one so.

    python -I -S parent_death.py PARENT SIGNAL PROGRAM ARGUMENTS...

It imports the standard library alone and almost nothing of that, as every child process starts
with it.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def end_when_parent_ends(parent: int, end: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends.

    On systems other than Linux nothing happens.

    Args:
        parent: process id of the parent; if it has ended already, this process exits.
        end: the signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(end))
    if os.getppid() != parent:
        sys.exit("The parent process ended before this program began.")


if __name__ == "__main__":
    end_when_parent_ends(int(sys.argv[1]), int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606  # the program that the parent names
