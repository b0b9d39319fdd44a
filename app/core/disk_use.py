"""How much disk space folders take, measured now and then."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.core.database import now

# Walking over many thousand files takes seconds.
_VALID_S = 300.0


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder, in bytes; 0 where there is none.

    Files that disappear meanwhile, and folders that may not be read, count nothing.
    """
    total, left = 0, [str(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Disk space by kind.

    Attributes:
        bytes: by kind, in the order of the page.
        measured_at: when.
    """

    bytes: Mapping[str, int]
    measured_at: datetime


class DiskMeter:
    """Measures disk space, at most every five minutes.

    Args:
        kinds: how each kind is measured.
    """

    def __init__(self, kinds: Mapping[str, Callable[[], int]]):
        self._kinds = kinds
        self._lock = threading.Lock()
        self._last: DiskUse | None = None
        self._valid_until = 0.0

    def read(self) -> DiskUse:
        """The last measurement, or a new one where it is old; one at a time is taken."""
        with self._lock:
            if self._last is None or time.monotonic() > self._valid_until:
                measured = {kind: measure() for kind, measure in self._kinds.items()}
                self._last = DiskUse(measured, now())
                self._valid_until = time.monotonic() + _VALID_S
            return self._last
