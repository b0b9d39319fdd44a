"""A small separate disk, which a test can fill to the last byte."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import leave_out

_PIECE = 4096


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount an empty file system in memory on a folder; only root may, as CI is."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        leave_out(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a process that just ends may still have a file open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Write a file that takes all room of a disk but a few bytes; deleting it frees them."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    room = free.f_bavail * free.f_bsize - leave
    with filler.open("wb", buffering=0) as file:
        try:
            while room > 0:
                room -= file.write(b"\1" * min(_PIECE, room))
        except OSError:
            assert not leave
    return filler
