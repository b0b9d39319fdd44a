"""Memory of this process and of its machine."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

# Parameters of glibc's mallopt(3), and their values.
_TRIM_THRESHOLD: Final = (-1, 1_000_000)
_MMAP_THRESHOLD: Final = (-3, 256 * 1024)
_MAX_ARENAS: Final = (-8, 2)
# Of the machine, and of the container (cgroup v2).
_MACHINE: Final = Path("/proc/meminfo")
_CONTAINER: Final = Path("/sys/fs/cgroup")


def return_freed_memory() -> None:
    """Let freed memory go back to the system; call it before threads are started.

    By default the C library keeps a heap for every thread, and in each of them the gaps that images
    leave: a server of 40 threads grew from 240 MB to 640 MB. Does nothing without glibc.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError):  # musl has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (_MAX_ARENAS, _TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(parameter, value)


def available_memory() -> int | None:
    """Memory that programs can still take, in bytes; None where the system does not say."""
    known = [free for free in (_free_of_machine(), _free_of_container()) if free is not None]
    return min(known, default=None)


def _free_of_machine() -> int | None:
    kilobytes = _number_of(_MACHINE, "MemAvailable:")
    return None if kilobytes is None else kilobytes * 1024


def _free_of_container() -> int | None:
    try:
        most = int((_CONTAINER / "memory.max").read_text(encoding="ascii"))
        used = int((_CONTAINER / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        # No container, or one without a limit ("max").
        return None
    # Files that were read count as used, and give way.
    cached = _number_of(_CONTAINER / "memory.stat", "inactive_file") or 0
    return max(0, most - used + cached)


def _number_of(path: Path, name: str) -> int | None:
    """The number behind a name at the beginning of a line."""
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            if line.split()[:1] == [name]:
                return int(line.split()[1])
    return None
