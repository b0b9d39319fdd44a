"""One run at a time on a GPU: a lock that a worker and the program it started hold."""

import fcntl
import os
import re
import socket
from pathlib import Path
from typing import BinaryIO

from app.settings import Settings

# The same in all containers of a machine, whose host names differ.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def lock_gpu(settings: Settings) -> BinaryIO | None:
    """Lock the GPU that a program of this process would use; None if another process has it.

    The lock lasts until the file is closed here and in every process that inherited it.
    """
    path = settings.home_folder.devices / f"{_machine()}-{_device()}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _machine() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def _device() -> str:
    """The first device that CUDA may use, which is the one that it chooses."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    return re.sub(r"[^A-Za-z0-9-]", "_", first) or "0"
