"""Files that others read while they are written: whole, or not there."""

import os
import shutil
from pathlib import Path


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file beside its place and move it there: it is whole and on disk, or not there.

    Unlike `ml.training.checkpoint.replacing` it gives the file the usual rights: results are
    shared.

    Args:
        path: its folder exists; a file that is there is replaced.
        content: text is written as UTF-8.

    Raises:
        OSError: there is no room, or no right to write; what was there stays.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Share a file under a second name, or copy it where the file systems cannot.

    Args:
        source: a file that nobody changes any more.
        target: nothing is there yet.

    Raises:
        OSError: there is something, or no room, or no right to write.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # Across file systems, or on one without links.
        shutil.copy(source, target)
