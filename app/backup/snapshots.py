"""A folder of backups: one snapshot for each, and every file once, named by its SHA-256.

    TARGET/objects/ab/abcd...         content, shared by all snapshots
    TARGET/snapshots/NAME/            backup.json, index.db, database.db or database.dump

A snapshot gets its name when everything in it is written and checked.
"""

import fcntl
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from app.backup.manifest import BackupManifest
from ml.errors import XrayError
from ml.files import write_whole
from ml.json_model import InvalidJson

MANIFEST = "backup.json"
INDEX = "index.db"
_UNFINISHED = ".unfinished-"
_CHUNK = 1024 * 1024


class BackupError(XrayError):
    """A backup that cannot be written, or is not complete."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a snapshot.

    Attributes:
        path: `storage/KEY`, or `home/PATH` in the home folder.
        size: in bytes, as it was when the folder was listed.
        modified_ns: when it was changed, in ns since 1970.
        sha256: of its content, which is the object's name.
    """

    path: str
    size: int
    modified_ns: int
    sha256: str


class Index:
    """The files of one snapshot: an SQLite file, so that memory does not grow with their number."""

    def __init__(self, path: Path) -> None:
        """Open an index, or begin one."""
        self._connection = sqlite3.connect(path)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS file ("
            "path TEXT PRIMARY KEY, size INTEGER, modified_ns INTEGER, sha256 TEXT) WITHOUT ROWID"
        )
        self._connection.execute("CREATE INDEX IF NOT EXISTS file_sha256 ON file (sha256)")

    def add(self, file: StoredFile) -> None:
        """Add a file."""
        row = (file.path, file.size, file.modified_ns, file.sha256)
        self._connection.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", row)

    def find(self, path: str) -> StoredFile | None:
        """The file with this path."""
        row = self._connection.execute("SELECT * FROM file WHERE path = ?", (path,)).fetchone()
        return StoredFile(*row) if row else None

    def needs(self, sha256: str) -> bool:
        """Whether a file has this content."""
        query = "SELECT 1 FROM file WHERE sha256 = ? LIMIT 1"
        return self._connection.execute(query, (sha256,)).fetchone() is not None

    def __iter__(self) -> Iterator[StoredFile]:
        """All files, by path."""
        for row in self._connection.execute("SELECT * FROM file ORDER BY path"):
            yield StoredFile(*row)

    def totals(self) -> tuple[int, int]:
        """Number of files, and their bytes."""
        query = "SELECT count(*), coalesce(sum(size), 0) FROM file"
        files, size = self._connection.execute(query).fetchone()
        return files, size

    def close(self) -> None:
        """Write what was added."""
        self._connection.commit()
        self._connection.close()


class BackupFolder:
    """A folder of backups."""

    def __init__(self, root: Path) -> None:
        """Name the folder; it is made when a backup is written."""
        self.root = root
        self._objects = root / "objects"
        self._snapshots = root / "snapshots"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other backups away from the folder.

        Raises:
            BackupError: another one is being written.
        """
        for folder in (self.root, self._objects, self._snapshots):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as problem:
                raise BackupError(f"Another backup to {self.root} is running.") from problem
            self._remove_unfinished()
            try:
                yield
            finally:
                self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        for unfinished in self._snapshots.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(unfinished)

    def names(self) -> list[str]:
        """The complete snapshots, oldest first."""
        if not self._snapshots.is_dir():
            return []
        return sorted(
            folder.name
            for folder in self._snapshots.iterdir()
            if not folder.name.startswith(".") and (folder / MANIFEST).is_file()
        )

    def snapshot(self, name: str) -> Path:
        """The folder of a snapshot."""
        return self._snapshots / name

    def begin(self, name: str) -> Path:
        """A new folder for a snapshot that is not complete yet."""
        folder = self._snapshots / f"{_UNFINISHED}{name}"
        folder.mkdir(mode=0o700)
        return folder

    def complete(self, folder: Path, manifest: BackupManifest) -> str:
        """Give a snapshot its name, once all of it is on the disk."""
        os.sync()
        write_whole(folder / MANIFEST, manifest.model_dump_json(indent=2), private=True)
        name = folder.name.removeprefix(_UNFINISHED)
        folder.rename(self._snapshots / name)
        return name

    def read_manifest(self, name: str) -> BackupManifest:
        """The manifest of a snapshot whose index and database are as it says.

        Raises:
            BackupError: something of the snapshot is missing or was changed.
        """
        folder = self.snapshot(name)
        try:
            manifest = BackupManifest.from_json((folder / MANIFEST).read_bytes())
        except (OSError, InvalidJson) as problem:
            raise BackupError(f"{folder} is not a backup: {problem}") from problem
        for file, sha256 in (
            (INDEX, manifest.index_sha256),
            (manifest.database_file, manifest.database_sha256),
        ):
            if not (folder / file).is_file() or hash_file(folder / file) != sha256:
                raise BackupError(
                    f"{folder / file} is damaged or missing. Restore another snapshot."
                )
        return manifest

    def put(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Write an object and read it back.

        Returns:
            Its SHA-256, and the bytes written; 0 where it was there.
        """
        digest, written = hashlib.sha256(), 0
        unfinished = self._objects / f"{_UNFINISHED}{os.getpid()}"
        try:
            with unfinished.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                for chunk in chunks:
                    digest.update(chunk)
                    written += file.write(chunk)
            sha256 = digest.hexdigest()
            if self.has(sha256):
                return sha256, 0
            if hash_file(unfinished) != sha256:
                raise BackupError(f"{self.root} does not keep what is written to it.")
            target = self._path(sha256)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            unfinished.rename(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return sha256, written

    def has(self, sha256: str) -> bool:
        """Whether there is an object."""
        return self._path(sha256).is_file()

    @contextmanager
    def open(self, file: StoredFile) -> Iterator[BufferedReader]:
        """Read the object of a file.

        Raises:
            BackupError: it is missing.
        """
        try:
            with self._path(file.sha256).open("rb") as opened:
                yield opened
        except FileNotFoundError as problem:
            raise BackupError(
                f"The content of {file.path} is not in the backup. Restore another snapshot."
            ) from problem

    def check(self, files: Iterable[StoredFile]) -> None:
        """Read objects and compare them with their names.

        Raises:
            BackupError: one is missing or damaged. A damaged one is removed, so that the next
                backup writes it again.
        """
        for file in files:
            with self.open(file) as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            if found != file.sha256:
                self._path(file.sha256).unlink(missing_ok=True)
                raise BackupError(f"The copy of {file.path} is damaged. Back up again.")

    def keep_newest(self, count: int) -> int:
        """Remove all snapshots but the newest, and the objects that no other one needs.

        Returns:
            How many objects were removed.
        """
        for name in self.names()[:-count]:
            shutil.rmtree(self.snapshot(name))
        indexes = [Index(self.snapshot(name) / INDEX) for name in self.names()]
        removed = 0
        try:
            for path in self._objects.glob("*/*"):
                if not any(index.needs(path.parent.name + path.name) for index in indexes):
                    path.unlink()
                    removed += 1
        finally:
            for index in indexes:
                index.close()
        return removed

    def _path(self, sha256: str) -> Path:
        return self._objects / sha256[:2] / sha256[2:]


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """The content of a file, piece by piece."""
    while chunk := file.read(_CHUNK):
        yield chunk
