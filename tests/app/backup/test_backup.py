"""Backup and restore: incremental, checked, and never over something else."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.backup.backup import write_backup
from app.backup.database_copy import check_sqlite, copy_database
from app.backup.restore import restore_backup
from app.backup.snapshots import MANIFEST, BackupError, BackupFolder
from app.core.database import Database
from app.core.storage import Storage
from app.migrations import upgrade
from app.screenings.installation import StorageMismatch, adopt_storage
from app.screenings.stored_images import STORED_IMAGES, image_key
from app.settings import Settings
from tests.support.screenings import record_screenings
from tests.support.tiny_models import DATABASES, own_database, settings_for

SECRET = "0123456789abcdef" * 4


class World:
    """An installation with some screenings and files, and a folder of backups."""

    def __init__(self, settings: Settings, target: Path) -> None:
        self.settings, self.target = settings, BackupFolder(target)
        self.database = Database(settings.effective_database_url)
        upgrade(self.database.engine)
        self.storage = Storage.open(settings.effective_storage_url)
        record_screenings(self.database, self.storage, 3)
        home = settings.home_folder
        for path in (home.model("a") / "card.json", home.data_set("b") / "manifest.csv"):
            path.parent.mkdir(parents=True)
            path.write_text(path.name)
        home.secret_key.write_text(SECRET)

    def back_up(self) -> str:
        return write_backup(self.settings, self.database, self.target)

    def objects(self) -> dict[Path, int]:
        found = (self.target.root / "objects").glob("*/*")
        return {path: path.stat().st_ino for path in found}

    def empty(self, folder: Path, url: str = "") -> Settings:
        return settings_for(url, folder)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(settings_for("", tmp_path / "home"), tmp_path / "backups")
    yield made
    made.database.close()


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("xray.db")
    }


def test_everything_comes_back_in_an_empty_home(world: World, tmp_path: Path) -> None:
    name = world.back_up()
    restored = world.empty(tmp_path / "elsewhere")
    done = restore_backup(restored, world.target, None, overwrite=False)
    assert (done.name, done.screenings, done.without_image) == (name, 3, 0)
    assert done.has_secret_key
    assert files(restored.home) == files(world.settings.home)
    key = restored.home_folder.secret_key
    assert key.stat().st_mode & 0o777 == 0o600
    check_sqlite(restored.home_folder.database)


def test_second_backup_copies_only_what_is_new(world: World) -> None:
    first = world.back_up()
    before = world.objects()
    record_screenings(world.database, world.storage, 1)
    second = world.back_up()
    after = world.objects()
    assert before.items() <= after.items()
    # An image and its thumbnail have the same content here.
    assert len(after) == len(before) + 1
    assert world.target.names() == [first, second]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in after)


def test_older_snapshots_are_removed_with_what_only_they_need(world: World, tmp_path: Path) -> None:
    world.back_up()
    (world.settings.home_folder.model("a") / "card.json").unlink()
    newest = world.back_up()
    assert world.target.keep_newest(1) == 1
    assert world.target.names() == [newest]
    done = restore_backup(world.empty(tmp_path / "x"), world.target, None, overwrite=False)
    assert done.screenings == 3


def test_restore_refuses_what_is_there_unless_told(world: World) -> None:
    world.back_up()
    newer = record_screenings(world.database, world.storage, 1)
    world.database.close()
    settings = world.settings
    before = files(settings.home)
    with pytest.raises(BackupError, match=r"There is something already.*--overwrite"):
        restore_backup(settings, world.target, None, overwrite=False)
    assert files(settings.home) == before
    done = restore_backup(settings, world.target, None, overwrite=True)
    assert done.screenings == 3
    assert done.set_aside is not None
    # Nothing was destroyed.
    assert (done.set_aside / "artefacts" / image_key(newer[0])).exists()
    assert (done.set_aside / "xray.db").exists()
    assert len(list((settings.home / "artefacts" / STORED_IMAGES).iterdir())) == 3


@pytest.mark.parametrize("broken", ["object", "database", "index", "missing"])
def test_damaged_backup_is_refused(world: World, tmp_path: Path, broken: str) -> None:
    snapshot = world.target.snapshot(world.back_up())
    path = {
        "object": next(iter(world.objects())),
        "missing": next(iter(world.objects())),
        "database": snapshot / "database.db",
        "index": snapshot / "index.db",
    }[broken]
    path.unlink() if broken == "missing" else path.write_bytes(b"\0" * path.stat().st_size)
    restored = world.empty(tmp_path / "elsewhere")
    with pytest.raises(BackupError, match=r"damaged|not in the backup"):
        restore_backup(restored, world.target, None, overwrite=False)
    # A server would start with an empty database, and its storage has another id.
    assert not restored.home_folder.database.exists()


def test_damaged_object_is_found_and_written_again(world: World) -> None:
    world.back_up()
    path = next(iter(world.objects()))
    path.write_bytes(b"damaged")
    from app.backup.snapshots import INDEX, Index

    index = Index(world.target.snapshot(world.back_up()) / INDEX)
    with pytest.raises(BackupError, match="damaged"):
        world.target.check(index)
    index.close()
    index = Index(world.target.snapshot(world.back_up()) / INDEX)
    world.target.check(index)
    index.close()


def test_backup_that_was_interrupted_is_none(world: World) -> None:
    complete = world.back_up()
    unfinished = world.target.snapshot(world.back_up())
    (unfinished / MANIFEST).unlink()
    assert world.target.names() == [complete]
    with world.target.locked(), pytest.raises(BackupError, match="Another backup"):
        world.back_up()


def test_backup_in_the_home_folder_is_refused(world: World) -> None:
    inside = BackupFolder(world.settings.home / "backups")
    with pytest.raises(BackupError, match="lost with it"):
        write_backup(world.settings, world.database, inside)


def test_backup_of_the_wrong_database_is_refused(world: World, tmp_path: Path) -> None:
    world.back_up()
    with world.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM installation")
    other = Storage.open((tmp_path / "other").as_uri())
    adopt_storage(world.database, other, by="test")
    with pytest.raises(StorageMismatch):
        world.back_up()


def test_copy_of_a_database_under_load_is_whole(world: World, tmp_path: Path) -> None:
    # Rows stand in the log beside the database until it is large.
    assert (world.settings.home / "xray.db-wal").stat().st_size > 0
    copy_database(world.settings.effective_database_url, tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM screening").fetchone() == (3,)
    assert {path.name for path in tmp_path.glob("copy.db*")} == {"copy.db"}


def test_empty_folder_and_unknown_snapshot_are_explained(world: World, tmp_path: Path) -> None:
    settings = world.empty(tmp_path / "elsewhere")
    with pytest.raises(BackupError, match="no complete backup"):
        restore_backup(settings, BackupFolder(tmp_path / "nothing"), None, overwrite=False)
    name = world.back_up()
    with pytest.raises(BackupError, match=name):
        restore_backup(settings, world.target, "yesterday", overwrite=False)


@pytest.mark.parametrize("kind", DATABASES)
def test_images_of_s3_come_back(kind: str, tmp_path: Path, s3_url: str) -> None:
    with own_database(kind, tmp_path) as url:
        bucket = f"{s3_url}/{tmp_path.name}-{kind}"
        made = World(settings_for(url, tmp_path / "home", storage_url=bucket), tmp_path / "backups")
        made.back_up()
        made.database.close()
        fresh = settings_for(url, tmp_path / "new", storage_url=f"{bucket}-restored")
        with pytest.raises(BackupError, match="the database"):
            restore_backup(fresh, made.target, None, overwrite=False)
        done = restore_backup(fresh, made.target, None, overwrite=True)
        assert (done.screenings, done.without_image) == (3, 0)
        new = Storage.open(f"{bucket}-restored")
        assert {entry.key for entry in new.entries()} == {
            entry.key for entry in made.storage.entries()
        }
