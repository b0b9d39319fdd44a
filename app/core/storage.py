"""Artefacts in a local folder or in S3, behind one interface; every key is written once."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import obstore
from obstore.store import LocalStore, ObjectStore, from_url

_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored artefact."""

    key: str
    modified_at: datetime


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
        raise ValueError(f"XRAY_STORAGE_URL is {url!r}: expected file:///folder or s3://bucket")

    def put(self, key: str, content: bytes) -> None:
        """Write a new artefact; the key becomes visible when it is complete.

        Raises:
            obstore.exceptions.AlreadyExistsError: the key is taken.
        """
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

    def entries(self, prefix: str) -> list[Entry]:
        """All artefacts whose key starts with the prefix."""
        return [
            Entry(found["path"], found["last_modified"])
            for batch in obstore.list(self.store, prefix)
            for found in batch
        ]

    def free_bytes(self) -> float:
        """Room left; without end where the storage is not a local folder."""
        return shutil.disk_usage(self.folder).free if self.folder else math.inf

    def remove_partial(self, before: datetime) -> int:
        """Remove what interrupted writes left in a local folder before a moment; their number."""
        if self.folder is None:
            return 0
        # The store writes to `key#N` and renames it when it is complete.
        left = [
            path
            for path in self.folder.rglob("*#*")
            if path.is_file() and path.stat().st_mtime < before.timestamp()
        ]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def check(self) -> None:
        """Raise the storage's own error where it cannot be reached."""
        for _ in obstore.list(self.store, "readiness", chunk_size=1):
            break
