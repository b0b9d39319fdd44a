"""Writing a backup while the server runs.

The database is copied first and the images after it: an image is stored before its row, so every
row of the copy has its image, unless the screening was deleted meanwhile.
"""

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import select

from app.backup.database_copy import copy_database, database_kind
from app.backup.manifest import DATABASE_FILES, BackupManifest
from app.backup.progress import as_mb, counted_files
from app.backup.snapshots import (
    INDEX,
    BackupError,
    BackupFolder,
    Index,
    StoredFile,
    chunks_of,
    hash_file,
)
from app.core.database import Database, now
from app.core.disk_full import is_disk_full
from app.core.storage import Storage
from app.home_folder import HomeFolder
from app.screenings.installation import require_one_installation
from app.screenings.stored_images import image_key
from app.screenings.tables import Screening
from app.settings import Settings

STORAGE, HOME = "storage", "home"
# Of a registration, and of `ml.files.write_whole`.
_UNFINISHED = re.compile(r"\.copy-.*|\..*\.part")
NAME_FORMAT = "%Y-%m-%dT%H-%M-%S-%fZ"


@dataclass(frozen=True, slots=True)
class _Source:
    """A file to back up; `read` gives None where it is gone."""

    path: str
    size: int
    modified_ns: int
    read: Callable[[], Iterable[bytes] | None]


def home_parts(home: HomeFolder) -> tuple[Path, ...]:
    """What of the home folder cannot be made again, besides the database and the images."""
    return (home.secret_key, home.models, home.data_sets, home.runs)


def write_backup(settings: Settings, database: Database, target: BackupFolder) -> str:
    """Write a snapshot of the database, the images, and the home folder's files.

    Returns:
        The snapshot's name.

    Raises:
        BackupError: it cannot be written, or what was written is not what it should be.
        StorageMismatch: database and storage do not belong together.
    """
    if settings.home_folder.overlaps(target.root):
        raise BackupError("A backup in the home folder is lost with it. Name another folder.")
    storage = Storage.open(settings.effective_storage_url)
    require_one_installation(database, storage)
    try:
        with target.locked():
            return _write_snapshot(settings, database, storage, target)
    except (OSError, sqlite3.Error) as problem:
        if not is_disk_full(problem):
            raise
        raise _no_room(target) from problem


def _write_snapshot(
    settings: Settings, database: Database, storage: Storage, target: BackupFolder
) -> str:
    url = settings.effective_database_url
    begun, before = now(), target.names()
    folder = target.begin(f"{begun:{NAME_FORMAT}}")
    copy = folder / DATABASE_FILES[database_kind(url)]
    copy_database(url, copy)
    print(f"database: {as_mb(copy.stat().st_size)}, checked", flush=True)
    index = Index(folder / INDEX)
    last = Index(target.snapshot(before[-1]) / INDEX) if before else None
    try:
        writer = _Writer(target, index, last)
        writer.add_all("images", _stored_files(storage))
        for part in home_parts(settings.home_folder):
            writer.add_all(part.name, _home_files(settings.home_folder, part))
        missing = _screenings_without_image(database, storage, index)
        files, size = index.totals()
    finally:
        for opened in (index, last):
            if opened:
                opened.close()
    manifest = BackupManifest(
        created_at=begun,
        version=version("xray-screening"),
        database=database_kind(url),
        database_sha256=hash_file(copy),
        index_sha256=hash_file(folder / INDEX),
        files=files,
        bytes=size,
    )
    name = target.complete(folder, manifest)
    if missing:
        print(f"warning: {missing} screening(s) have no image in the storage", flush=True)
    return name


def _no_room(target: BackupFolder) -> BackupError:
    return BackupError(
        f"There is no room in {target.root}. The earlier backups are whole; remove some with "
        "--keep, or name a larger disk."
    )


@dataclass(slots=True)
class _Writer:
    """Adds files to a snapshot; those that the last one has unchanged are not read again."""

    target: BackupFolder
    index: Index
    last: Index | None

    def add_all(self, what: str, sources: Iterable[_Source]) -> None:
        with counted_files(what) as count:
            for source in sources:
                sha256, written = self._unchanged(source), 0
                if sha256 is None:
                    content = source.read()
                    if content is None:
                        continue
                    sha256, written = self.target.put(content)
                self.index.add(StoredFile(source.path, source.size, source.modified_ns, sha256))
                count.add(source.size, written)

    def _unchanged(self, source: _Source) -> str | None:
        before = self.last.find(source.path) if self.last else None
        if before and (before.size, before.modified_ns) == (source.size, source.modified_ns):
            return before.sha256 if self.target.has(before.sha256) else None
        return None


def _stored_files(storage: Storage) -> Iterator[_Source]:
    for entry in storage.entries():
        modified_ns = int(entry.modified_at.timestamp() * 1e9)
        yield _Source(
            f"{STORAGE}/{entry.key}",
            entry.size,
            modified_ns,
            lambda key=entry.key: storage.stream(key),  # type: ignore[misc]
        )


def _home_files(home: HomeFolder, path: Path) -> Iterator[_Source]:
    """The files at or below a path; links are not followed."""
    try:
        if path.is_dir() and not path.is_symlink():
            with os.scandir(path) as entries:
                for entry in entries:
                    # What is being written gets another name when it is complete.
                    if not _UNFINISHED.fullmatch(entry.name):
                        yield from _home_files(home, Path(entry))
        elif path.is_file() and not path.is_symlink():
            found = path.stat()
            yield _Source(
                f"{HOME}/{home.relative(path)}",
                found.st_size,
                found.st_mtime_ns,
                lambda: _content(path),
            )
    except FileNotFoundError:
        return


def _content(path: Path) -> Iterator[bytes] | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    return _read_to_end(file)


def _read_to_end(file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield from chunks_of(file)


def _screenings_without_image(database: Database, storage: Storage, index: Index) -> int:
    """How many recorded screenings have their image neither in the backup nor in the storage."""
    query = select(Screening.id).execution_options(yield_per=1000)
    with database.sessions() as session:
        keys = (image_key(screening) for screening in session.scalars(query))
        return sum(
            index.find(f"{STORAGE}/{key}") is None and not storage.contains(key) for key in keys
        )
