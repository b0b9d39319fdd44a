"""The clean-up of stored images: what belongs to a screening outlasts every wrong database."""

import gc
import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.database import Database, now
from app.core.storage import Storage
from app.migrations import upgrade
from app.screenings import cleanup
from app.screenings.cleanup import TRASH, CleanUp, remove_orphaned_images
from app.screenings.stored_images import STORED_IMAGES, image_key, thumbnail_key
from app.screenings.tables import Screening
from tests.support.screenings import record_screenings

AT_ONCE = timedelta(0)


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


def stored(storage: Storage, prefix: str = STORED_IMAGES) -> set[str]:
    return {entry.key for entry in storage.entries(prefix)}


def test_another_database_destroys_no_image(
    database: Database, other_database: Database, storage: Storage
) -> None:
    record_screenings(database, storage, 20)
    before = stored(storage)
    done = remove_orphaned_images(other_database, storage, AT_ONCE, trash_days=0)
    assert done == CleanUp(unknown=40, refused=True)
    assert stored(storage) == before


def test_older_copy_of_the_database_destroys_no_image(database: Database, storage: Storage) -> None:
    record_screenings(database, storage, 3)
    newer = record_screenings(database, storage, 2)
    everything = stored(storage)
    with database.session() as session:
        rows = [session.get_one(Screening, screening) for screening in newer]
        for row in rows:
            session.delete(row)
    # The newer images are unknown to the copy, and go to the trash.
    assert remove_orphaned_images(database, storage, AT_ONCE).moved == 4
    assert remove_orphaned_images(database, storage, AT_ONCE).deleted == 0
    assert len(stored(storage, TRASH)) == 4
    # The right database is back: so are they.
    with database.session() as session:
        for row in rows:
            session.merge(row)
    assert remove_orphaned_images(database, storage, AT_ONCE).put_back == 4
    assert stored(storage) == everything
    assert not stored(storage, TRASH)


def test_image_without_a_screening_passes_through_the_trash(
    database: Database, storage: Storage
) -> None:
    ids = record_screenings(database, storage, 2)
    kept = stored(storage)
    orphan = image_key(uuid.uuid4())
    storage.put(orphan, b"left by a crash")
    # It may belong to a screening that is being recorded.
    assert remove_orphaned_images(database, storage) == CleanUp()
    assert remove_orphaned_images(database, storage, AT_ONCE).moved == 1
    assert stored(storage) == kept
    assert remove_orphaned_images(database, storage, AT_ONCE, trash_days=1).deleted == 0
    assert remove_orphaned_images(database, storage, AT_ONCE, trash_days=0).deleted == 1
    assert stored(storage, "") == kept
    assert storage.get(thumbnail_key(ids[0])) == ids[0].bytes


def test_one_clean_up_removes_a_limited_number(
    database: Database, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "LARGEST_CLEAN_UP", 3)
    record_screenings(database, storage, 4)
    for _ in range(5):
        storage.put(image_key(uuid.uuid4()), b"left by a crash")
    assert remove_orphaned_images(database, storage, AT_ONCE).moved == 3
    assert remove_orphaned_images(database, storage, AT_ONCE).moved == 2
    assert remove_orphaned_images(database, storage, AT_ONCE, trash_days=0).deleted == 3
    assert remove_orphaned_images(database, storage, AT_ONCE, trash_days=0).deleted == 2
    assert len(stored(storage)) == 8


def test_most_images_may_be_removed_by_force(database: Database, storage: Storage) -> None:
    storage.put(image_key(uuid.uuid4()), b"the only image")
    assert remove_orphaned_images(database, storage, AT_ONCE).refused
    assert remove_orphaned_images(database, storage, AT_ONCE, force=True).moved == 1
    assert len(stored(storage, TRASH)) == 1


def test_empty_folders_are_removed(database: Database, tmp_path: Path) -> None:
    storage = Storage.open((tmp_path / "artefacts").as_uri())
    record_screenings(database, storage, 1)
    empty = tmp_path / "artefacts" / STORED_IMAGES / str(uuid.uuid4())
    empty.mkdir()
    # A file may just be written to a young folder.
    remove_orphaned_images(database, storage)
    assert empty.exists()
    remove_orphaned_images(database, storage, AT_ONCE)
    assert not empty.exists()


def test_memory_does_not_grow_with_the_number_of_files(database: Database, tmp_path: Path) -> None:
    storage = Storage.open((tmp_path / "artefacts").as_uri())
    record_screenings(database, storage, 1000)
    few = peak_bytes(database, storage)
    record_screenings(database, storage, 4000)
    assert peak_bytes(database, storage) < 1.5 * few


def peak_bytes(database: Database, storage: Storage) -> int:
    """The most memory that a clean-up holds at a time, in bytes."""
    remove_orphaned_images(database, storage, AT_ONCE)
    # Cycles are collected at once: how many wait depends on what ran before.
    thresholds = gc.get_threshold()
    gc.collect()
    gc.set_threshold(50, 2, 2)
    tracemalloc.start()
    try:
        remove_orphaned_images(database, storage, AT_ONCE)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.set_threshold(*thresholds)


def test_moments_of_the_trash_are_read_back(database: Database, storage: Storage) -> None:
    old = f"{TRASH}/{now() - timedelta(days=8):%Y%m%dT%H%M%SZ}/{image_key(uuid.uuid4())}"
    foreign = f"{TRASH}/notes/{image_key(uuid.uuid4())}"
    storage.put(old, b"")
    storage.put(foreign, b"")
    assert remove_orphaned_images(database, storage).deleted == 1
    assert stored(storage, TRASH) == {foreign}
