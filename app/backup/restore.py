"""Restoring a snapshot to an empty installation: files first, the database last."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from app.backup.backup import HOME, STORAGE, home_parts
from app.backup.database_copy import database_kind, holds_tables, put_database, sqlite_path
from app.backup.progress import counted_files
from app.backup.snapshots import (
    INDEX,
    BackupError,
    BackupFolder,
    Index,
    StoredFile,
    chunks_of,
)
from app.core.database import Database, now
from app.core.safe_files import path_in
from app.core.storage import Storage
from app.home_folder import HomeFolder
from app.screenings.stored_images import image_key
from app.screenings.tables import Screening
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored.

    Attributes:
        name: of the snapshot.
        screenings: rows in the database.
        without_image: screenings whose image the backup does not have: they were deleted while it
            was written.
        has_secret_key: whether the key that signs cookies was in the backup.
        set_aside: folder of what was there before; None where the home folder was empty.
    """

    name: str
    screenings: int
    without_image: int
    has_secret_key: bool
    set_aside: Path | None


def restore_backup(
    settings: Settings, source: BackupFolder, name: str | None, *, overwrite: bool
) -> Restored:
    """Put back a snapshot, checking every file on the way.

    Args:
        settings: name the home folder, database and storage to restore to. No server may run.
        source: the folder of backups.
        name: of the snapshot; the newest by default.
        overwrite: also where there is something; the files in the home folder are set aside.

    Raises:
        BackupError: the snapshot is damaged, or there is something that would be overwritten.
    """
    name = _chosen(source, name)
    manifest = source.read_manifest(name)
    url, home = settings.effective_database_url, settings.home_folder
    if database_kind(url) != manifest.database:
        raise BackupError(
            f"The backup is of a {manifest.database} database: name one in XRAY_DATABASE_URL."
        )
    present = _present(settings)
    if present and not overwrite:
        raise BackupError(
            f"There is something already: {', '.join(present)}. Restore to an empty XRAY_HOME, "
            "database and storage, or use --overwrite."
        )
    set_aside = _set_aside(home, url) if present else None
    storage = Storage.open(settings.effective_storage_url)
    index = Index(source.snapshot(name) / INDEX)
    try:
        _put_files(source, index, storage, home)
        put_database(url, source.snapshot(name) / manifest.database_file)
        screenings, without_image = _check_screenings(url, index)
        has_secret_key = index.find(f"{HOME}/{home.relative(home.secret_key)}") is not None
    finally:
        index.close()
    return Restored(name, screenings, without_image, has_secret_key, set_aside)


def _chosen(source: BackupFolder, name: str | None) -> str:
    names = source.names()
    if not names:
        raise BackupError(f"There is no complete backup in {source.root}.")
    if name is not None and name not in names:
        raise BackupError(f"There is no snapshot {name!r}. There are: {', '.join(names)}")
    return name or names[-1]


def _present(settings: Settings) -> list[str]:
    """What a restore would overwrite."""
    home, url = settings.home_folder, settings.effective_database_url
    present = [str(part) for part in (*home_parts(home), home.artefacts) if _is_something(part)]
    if holds_tables(url):
        present.append("the database")
    if settings.storage_url and _holds_artefacts(Storage.open(settings.storage_url)):
        present.append("the image storage")
    return present


def _is_something(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _holds_artefacts(storage: Storage) -> bool:
    return next(storage.entries(), None) is not None


def _set_aside(home: HomeFolder, url: str) -> Path:
    """Move what is in the home folder, and an SQLite database, to a folder beside it."""
    aside = home.root / f"replaced-{now():%Y-%m-%dT%H-%M-%SZ}"
    aside.mkdir(mode=0o700, parents=True)
    moved = [*home_parts(home), home.artefacts]
    if database_kind(url) == "sqlite":
        path = sqlite_path(url)
        moved += [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]
    for path in moved:
        if path.exists():
            path.rename(aside / path.name)
    return aside


def _put_files(source: BackupFolder, index: Index, storage: Storage, home: HomeFolder) -> None:
    with counted_files("files") as count:
        for file in index:
            part, _, path = file.path.partition("/")
            if part == STORAGE:
                storage.replace(path, _checked_content(source, file))
            else:
                _put_in_home(source, file, path_in(home.root, path))
            count.add(file.size, file.size)


def _checked_content(source: BackupFolder, file: StoredFile) -> bytes:
    with source.open(file) as opened:
        content = opened.read()
    _require_sha256(file, hashlib.sha256(content).hexdigest())
    return content


def _put_in_home(source: BackupFolder, file: StoredFile, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished, digest = target.with_name(f".{target.name}.restored"), hashlib.sha256()
    with source.open(file) as opened, unfinished.open("wb") as written:
        # The folder is private; so is the key within it.
        os.fchmod(written.fileno(), 0o600)
        for chunk in chunks_of(opened):
            digest.update(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    _require_sha256(file, digest.hexdigest())
    # The next backup knows it by its time.
    os.utime(unfinished, ns=(file.modified_ns, file.modified_ns))
    unfinished.replace(target)


def _require_sha256(file: StoredFile, found: str) -> None:
    if found != file.sha256:
        raise BackupError(f"The copy of {file.path} is damaged. Restore another snapshot.")


def _check_screenings(url: str, index: Index) -> tuple[int, int]:
    """How many screenings the database has, and how many of them have no image in the backup."""
    database = Database(url)
    try:
        with database.sessions() as session:
            query = select(Screening.id).execution_options(yield_per=1000)
            total = missing = 0
            for screening in session.scalars(query):
                total += 1
                missing += index.find(f"{STORAGE}/{image_key(screening)}") is None
    finally:
        database.close()
    return total, missing
