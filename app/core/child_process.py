"""Child processes that end with the process that started them, even if that is killed."""

import os
import signal
import sys
from collections.abc import Sequence

# The kernel sends the signal when the thread that started the program ends. The call has to be made
# by the program's own process; a program of its own makes it, as running Python between fork and
# exec is not safe beside other threads. Systems other than Linux know no such signal.
_LAUNCHER = """
import ctypes, os, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent process ended before this one began")
os.execv(sys.argv[3], sys.argv[3:])
"""


def end_with_parent(command: Sequence[str], end: signal.Signals) -> list[str]:
    """A command to be started from this process, which gets the signal `end` when its thread ends.

    Args:
        command: the path of a program and its arguments.
        end: what the kernel sends.
    """
    arguments = [str(os.getpid()), str(int(end)), *command]
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, *arguments]
