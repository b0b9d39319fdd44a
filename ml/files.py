"""Write files so that a reader sees the old content or the new, never a part of it."""

import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

Content = bytes | str | Callable[[BinaryIO], object]


def write_whole(path: Path, content: Content, *, private: bool = False) -> None:
    """Write a file in one step: after a crash or on a full disk the old content is still there.

    The content goes to a hidden file in the same folder, is flushed to the disk, and takes the
    name `path` last. Writers of the same path wait for each other. A hidden file that a crash left
    behind is used again by the next writer.

    Args:
        path: the file; its folder exists.
        content: bytes, text (written as UTF-8), or a function that writes to a binary file.
        private: only the owner may read the file (mode 0600). Otherwise the umask decides.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    unfinished = path.with_name(f".{path.name}.part")
    with _open_alone(unfinished, 0o600 if private else 0o666) as file:
        try:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _open_alone(path: Path, mode: int) -> BinaryIO:
    """Open an empty file that no other writer has open."""
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, mode)
        # Some network file systems have no locks.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_named(descriptor, path):
            os.ftruncate(descriptor, 0)
            return os.fdopen(descriptor, "wb")
        # The writer that had the lock has given the file its final name.
        os.close(descriptor)


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Give a file a second name, or copy it where the file system has no hard links.

    Args:
        source: a file that does not change any more.
        target: must not exist yet.

    Raises:
        OSError: the target exists, the disk is full, or the folder is not writable.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # Across file systems, or on one without links.
        shutil.copy(source, target)


def shown_path(path: Path) -> str:
    r"""A path as text that every table takes: bytes that are not UTF-8 as `\xe4`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
