"""The first load of a new model, in a child process with limited time and memory.

A graph is a program: it may loop for ever or take all memory. The server and the workers load a
model themselves only after it has worked here.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

from app.core.child_process import end_with_parent
from ml.errors import BundleError
from ml.texts import Number, msg

LONGEST_S = 60.0
_ROOT = Path(__file__).parents[2]


def check_in_child(kind: Literal["classifier", "generator"], folder: Path) -> None:
    """Load a model and have it work once, without risk to this process.

    Raises:
        BundleError: it is refused, crashes, or needs too much time or memory.
    """
    # -P: no module is imported from the working folder.
    command = [sys.executable, "-P", "-m", "ml.model_check", kind, str(folder.resolve())]
    try:
        done = subprocess.run(
            end_with_parent(command, signal.SIGKILL),
            # No secret of the server's environment is there.
            env={"PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)])},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=LONGEST_S,
        )
    except subprocess.TimeoutExpired as problem:
        raise BundleError(
            msg(
                "The model does not answer within %(longest_s)s seconds. It cannot be used here.",
                longest_s=Number(LONGEST_S),
            )
        ) from problem
    if done.returncode < 0:
        raise BundleError(
            msg("The model crashes or needs too much memory. It cannot be used here.")
        )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise BundleError(reason or msg("The model cannot be loaded."))
