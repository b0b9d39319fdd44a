"""Artefacts in a local folder or in S3, behind one interface; every key is written once."""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from app.core.disk_full import is_disk_full, storage_full

_CHUNK_BYTES = 256 * 1024
_PAGE = 1000  # artefacts listed at once, so that memory does not grow with their number


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored artefact."""

    key: str
    modified_at: datetime
    size: int = 0


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes by key. A key is a relative path of plain segments, chosen by the application."""

    store: ObjectStore
    folder: Path | None = None  # of a local store

    @classmethod
    def open(cls, url: str) -> "Storage":
        """Open `file:///folder`, which is made where it is missing, or `s3://bucket/prefix`.

        Credentials and endpoint of S3 come from the usual AWS_* variables.
        """
        parsed = urlparse(url)
        if parsed.scheme == "file":
            folder = Path(url2pathname(parsed.path))
            folder.mkdir(parents=True, exist_ok=True)
            return cls(LocalStore(folder, automatic_cleanup=True), folder)
        if parsed.scheme == "s3":
            return cls(from_url(url))
        raise ValueError(f"XRAY_STORAGE_URL is {url!r}. Expected file:///folder or s3://bucket.")

    def put(self, key: str, content: bytes) -> None:
        """Write a new artefact; the key becomes visible when it is complete.

        Raises:
            obstore.exceptions.AlreadyExistsError: the key is taken.
            StorageFull: there is no room; nothing is left of it.
        """
        with self._clearing_up(key):
            obstore.put(self.store, key, content, mode="create")

    def get(self, key: str) -> bytes | None:
        """Read an artefact; None where there is none."""
        try:
            return bytes(obstore.get(self.store, key).bytes())
        except FileNotFoundError:
            return None

    def stream(self, key: str) -> Iterator[bytes] | None:
        """Read an artefact in pieces; None where there is none."""
        try:
            found = obstore.get(self.store, key)
        except FileNotFoundError:
            return None
        return (bytes(chunk) for chunk in found.stream(min_chunk_size=_CHUNK_BYTES))

    def delete(self, key: str) -> None:
        """Remove an artefact; one that is gone already is no error."""
        try:
            obstore.delete(self.store, key)
        except FileNotFoundError:
            return

    def put_unless_there(self, key: str, content: bytes) -> bool:
        """Write a new artefact; False where the key is taken."""
        try:
            self.put(key, content)
        except AlreadyExistsError:
            return False
        return True

    def replace(self, key: str, content: bytes) -> None:
        """Write an artefact, whether or not the key is taken."""
        with self._clearing_up(key):
            obstore.put(self.store, key, content, mode="overwrite")

    @contextmanager
    def _clearing_up(self, key: str) -> Iterator[None]:
        """Remove what a failed write leaves in a local folder; name a full disk."""
        try:
            yield
        except BaseError as problem:
            if self.folder and not isinstance(problem, AlreadyExistsError):
                _remove_empty_folders(self.folder, key)
            if is_disk_full(problem):
                raise storage_full() from problem
            raise

    def contains(self, key: str) -> bool:
        """Whether there is an artefact with this key."""
        try:
            obstore.head(self.store, key)
        except FileNotFoundError:
            return False
        return True

    def move(self, key: str, target: str) -> bool:
        """Give an artefact another key; False where it is gone."""
        try:
            obstore.rename(self.store, key, target, overwrite=True)
        except FileNotFoundError:
            return False
        return True

    def pages(self, prefix: str = "") -> Iterator[list[Entry]]:
        """All artefacts below a folder of keys, a page at a time."""
        for batch in obstore.list(self.store, prefix or None, chunk_size=_PAGE):
            yield [Entry(found["path"], found["last_modified"], found["size"]) for found in batch]

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """All artefacts below a folder of keys."""
        for page in self.pages(prefix):
            yield from page

    def free_bytes(self) -> float:
        """Room left; without end where the storage is not a local folder."""
        return shutil.disk_usage(self.folder).free if self.folder else math.inf

    def remove_leftovers(self, before: datetime) -> int:
        """Remove from a local folder what interrupted writes left before a moment.

        Returns:
            The number of files removed; empty folders are removed as well.
        """
        return _remove_leftovers(self.folder, before.timestamp()) if self.folder else 0

    def check(self) -> None:
        """Raise the storage's own error where it cannot be reached."""
        for _ in obstore.list(self.store, "readiness", chunk_size=1):
            break


def _remove_empty_folders(root: Path, key: str) -> None:
    """Remove the folders of a key, from the innermost, as far as they are empty."""
    with suppress(OSError):
        for parent in (root / key).parents:
            if parent == root:
                return
            parent.rmdir()


def _remove_leftovers(folder: Path, before: float) -> int:
    """Remove partial files and empty folders below a folder, one entry at a time."""
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                # Of before its content is removed, which changes it. A younger folder may be one
                # that a file is just being written to.
                is_old = entry.stat(follow_symlinks=False).st_mtime < before
                removed += _remove_leftovers(Path(entry), before)
                if is_old:
                    with suppress(OSError):  # it is not empty
                        Path(entry).rmdir()
            # The store writes to `key#N` and renames it when it is complete.
            elif "#" in entry.name and entry.stat(follow_symlinks=False).st_mtime < before:
                Path(entry).unlink(missing_ok=True)
                removed += 1
    return removed
