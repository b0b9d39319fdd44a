"""Commands of child processes that end together with their parent."""

import os
import signal
import sys
from collections.abc import Sequence

from app.core import parent_death


def end_with_parent(command: Sequence[str], end: signal.Signals) -> list[str]:
    """A command for a child that receives a signal when the thread that started it ends.

    A launcher makes the system call in the child and then becomes the program, as running Python
    between fork and exec is not safe beside other threads.

    Args:
        command: the path of a program and its arguments.
        end: the signal that the kernel sends.
    """
    launcher = [sys.executable, "-I", "-S", str(parent_death.__file__)]
    return [*launcher, str(os.getpid()), str(int(end)), *command]
