"""Artefacts in a local folder or in S3, behind one interface; every key is written once."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import obstore
from obstore.store import LocalStore, ObjectStore, from_url


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored artefact."""

    key: str
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes by key. A key is a relative path of plain segments, chosen by the application."""

    store: ObjectStore

    @classmethod
    def open(cls, url: str) -> "Storage":
        """Open `file:///folder`, which is made where it is missing, or `s3://bucket/prefix`.

        Credentials and endpoint of S3 come from the usual AWS_* variables.
        """
        parsed = urlparse(url)
        if parsed.scheme == "file":
            folder = Path(url2pathname(parsed.path))
            folder.mkdir(parents=True, exist_ok=True)
            return cls(LocalStore(folder, automatic_cleanup=True))
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

    def check(self) -> None:
        """Raise the storage's own error where it cannot be reached."""
        for _ in obstore.list(self.store, "readiness", chunk_size=1):
            break
