"""Database and storage of two installations do not start together."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from sqlalchemy import select

from app.core.audit import AuditEvent
from app.core.database import Database
from app.core.storage import Storage
from app.migrations import upgrade
from app.screenings.installation import (
    STORAGE_ID,
    StorageMismatch,
    adopt_storage,
    require_one_installation,
)
from app.screenings.stored_images import STORED_IMAGES
from tests.support import REPOSITORY
from tests.support.screenings import record_screenings


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    yield from opened(tmp_path / "xray.db")


@pytest.fixture
def other_database(tmp_path: Path) -> Iterator[Database]:
    yield from opened(tmp_path / "typo.db")


def opened(path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{path}")
    upgrade(database.engine)
    yield database
    database.close()


def test_first_start_gives_both_one_id(database: Database, storage: Storage) -> None:
    require_one_installation(database, storage)
    given = storage.get(STORAGE_ID)
    require_one_installation(database, storage)
    assert storage.get(STORAGE_ID) == given


def test_another_database_is_refused(
    database: Database, other_database: Database, storage: Storage
) -> None:
    require_one_installation(database, storage)
    record_screenings(database, storage, 2)
    with pytest.raises(StorageMismatch, match="xray storage adopt"):
        require_one_installation(other_database, storage)
    # Also one that has its own storage.
    require_one_installation(other_database, elsewhere := Storage(MemoryStore()))
    with pytest.raises(StorageMismatch, match="XRAY_STORAGE_URL"):
        require_one_installation(other_database, storage)
    with pytest.raises(StorageMismatch):
        require_one_installation(database, elsewhere)


def test_storage_that_is_not_mounted_is_refused(
    database: Database, storage: Storage, tmp_path: Path
) -> None:
    require_one_installation(database, storage)
    record_screenings(database, storage, 2)
    empty = Storage.open((tmp_path / "empty").as_uri())
    with pytest.raises(StorageMismatch, match="not mounted"):
        require_one_installation(database, empty)
    assert empty.get(STORAGE_ID) is None


def test_upgrade_goes_by_the_images(
    database: Database, other_database: Database, storage: Storage
) -> None:
    # As version 0.1.0 left them: neither has an id.
    record_screenings(database, storage, 3)
    with pytest.raises(StorageMismatch, match="not the database of these images"):
        require_one_installation(other_database, storage)
    assert storage.get(STORAGE_ID) is None
    require_one_installation(database, storage)


def test_start_that_was_interrupted_between_the_two_is_finished(
    database: Database, storage: Storage
) -> None:
    require_one_installation(database, storage)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM installation")
    require_one_installation(database, storage)


def test_damaged_id_is_explained(database: Database, storage: Storage) -> None:
    storage.put(STORAGE_ID, b"\xff")
    with pytest.raises(StorageMismatch, match="holds no id"):
        require_one_installation(database, storage)


def test_moved_storage_is_adopted(
    database: Database, other_database: Database, storage: Storage
) -> None:
    require_one_installation(database, storage)
    require_one_installation(other_database, Storage(MemoryStore()))
    adopt_storage(other_database, storage, by="test")
    require_one_installation(other_database, storage)
    with other_database.sessions() as session:
        event = session.scalars(select(AuditEvent)).one()
    assert (event.action, event.actor) == ("storage.adopted", "test")


def xray(home: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: own for name, own in os.environ.items() if not name.startswith("XRAY_")}
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=REPOSITORY,
        env=inherited | {"XRAY_HOME": str(home), "COLUMNS": "200"} | settings,
        capture_output=True,
        text=True,
        timeout=250,
    )


def test_server_worker_and_clean_up_refuse_a_misspelt_database(
    database: Database, tmp_path: Path
) -> None:
    storage = Storage.open((tmp_path / "artefacts").as_uri())
    require_one_installation(database, storage)
    record_screenings(database, storage, 20)
    before = {entry.key for entry in storage.entries(STORED_IMAGES)}
    typo = {"XRAY_DATABASE_URL": f"sqlite:///{tmp_path / 'xary.db'}"}
    for command in (["serve", "--no-worker"], ["worker"], ["storage", "clean-up", "--force"]):
        done = xray(tmp_path, *command, **typo)
        assert done.returncode == 1, done.stdout
        assert "xray storage adopt" in done.stderr
        assert "Traceback" not in done.stderr
    assert {entry.key for entry in storage.entries(STORED_IMAGES)} == before
    adopted = xray(tmp_path, "storage", "adopt", "--yes", **typo)
    assert "0 of 40 stored images" in adopted.stdout
    # Even then the images stay.
    refused = xray(tmp_path, "storage", "clean-up", **typo)
    assert refused.returncode == 0
    assert {entry.key for entry in storage.entries(STORED_IMAGES)} == before
