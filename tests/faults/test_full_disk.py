"""A disk that is really full: refusals that say so, nothing half-written, and deletion possible."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from app.backup.backup import write_backup
from app.backup.restore import restore_backup
from app.backup.snapshots import BackupError, BackupFolder
from app.core.database import Database
from app.core.storage import Storage
from app.main import create_app
from app.migrations import upgrade
from app.screenings.stored_images import STORED_IMAGES
from app.screenings.tables import Screening
from app.settings import Settings
from ml.files import write_whole
from ml.training.checkpoint import load_checkpoint, save_checkpoint
from tests.support.screenings import record_screenings
from tests.support.small_disk import fill, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 8) as mounted:
        yield mounted


def settings_on(home: Path) -> Settings:
    return Settings(
        _env_file=None,
        home=home,
        decoder_workers=1,
        decode_timeout_s=20,
        min_free_mb=0,
        clinic_reserve_mb=0,
    )


@pytest.fixture
def application(disk: Path) -> Iterator[FastAPI]:
    """An application whose database and images are on the small disk."""
    settings = settings_on(disk / "home")
    database = Database(settings.effective_database_url)
    upgrade(database.engine)
    database.close()
    app = create_app(settings)
    with TestClient(app):
        yield app


def counts(application: FastAPI) -> tuple[int | None, int]:
    """Rows of screenings, and files in the storage."""
    services = application.state.services
    with services.database.sessions() as session:
        rows = session.scalar(select(func.count()).select_from(Screening))
    folder = services.storage.folder / STORED_IMAGES
    return rows, len([path for path in folder.rglob("*") if path.is_file()])


def folders(application: FastAPI) -> int:
    return len(list((application.state.services.storage.folder / STORED_IMAGES).iterdir()))


def test_upload_is_refused_with_what_to_do_and_leaves_nothing(
    application: FastAPI, disk: Path, image_bytes: bytes
) -> None:
    visitor = TestClient(application, follow_redirects=False)
    address = visitor.post("/screenings", files={"image": image_bytes}).headers["location"]
    assert counts(application) == (1, 2)
    # From no room at all to room for the image but not for its row.
    for leave in (0, 4096, 32_768, 65_536, 98_304, 131_072, 196_608):
        filler = fill(disk, leave=leave)
        for _ in range(4):
            answer = visitor.post("/screenings", files={"image": image_bytes})
            if answer.status_code != 303:
                assert answer.status_code == 507, answer.text
                assert "disk space" in answer.text
            rows, files = counts(application)
            assert files == 2 * (rows or 0)
            assert folders(application) == rows
        filler.unlink()
    filler = fill(disk)
    assert visitor.post("/screenings", files={"image": image_bytes}).status_code == 507
    before, _ = counts(application)
    assert visitor.post(f"{address}/delete").status_code == 303
    assert visitor.get(address).status_code == 404
    after, files = counts(application)
    assert (after or 0) == (before or 0) - 1
    assert files == 2 * (after or 0)
    filler.unlink()
    assert visitor.post("/screenings", files={"image": image_bytes}).status_code == 303


def test_api_names_the_full_disk(application: FastAPI, disk: Path, image_bytes: bytes) -> None:
    from app.accounts.api_keys import create_key

    with application.state.services.database.session() as session:
        key = create_key(session, "North", "test")
    client = TestClient(application, headers={"Authorization": f"Bearer {key}"})
    fill(disk)
    refused = client.post("/api/v1/screenings", files={"image": image_bytes})
    assert refused.status_code == 507
    assert refused.json()["code"] == "storage-full"
    assert counts(application) == (0, 0)


def test_full_spool_is_no_server_error(
    application: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = TestClient(application, follow_redirects=False)
    with small_disk(tmp_path / "spool", 2) as spool:
        monkeypatch.setattr(tempfile, "tempdir", str(spool))
        refused = visitor.post("/screenings", files={"image": b"\1" * 6_000_000})
        assert refused.status_code == 507
        assert "disk space" in refused.text
        assert not list(spool.iterdir())


def test_database_keeps_what_was_committed(disk: Path) -> None:
    database = Database(f"sqlite:///{disk / 'xray.db'}")
    upgrade(database.engine)
    storage = Storage.open((disk / "artefacts").as_uri())
    record_screenings(database, storage, 3)
    filler = fill(disk)
    with pytest.raises(OperationalError):
        write_much(database)
    with database.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Screening)) == 3
    filler.unlink()
    record_screenings(database, storage, 1)
    database.close()
    with closing(sqlite3.connect(disk / "xray.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def write_much(database: Database) -> None:
    with database.session() as session:
        session.connection().exec_driver_sql("CREATE TABLE large (content BLOB)")
        session.connection().exec_driver_sql("INSERT INTO large VALUES (zeroblob(4000000))")


def test_backup_without_room_leaves_the_earlier_one(tmp_path: Path, disk: Path) -> None:
    settings = settings_on(tmp_path / "home")
    database = Database(settings.effective_database_url)
    upgrade(database.engine)
    storage = Storage.open(settings.effective_storage_url)
    record_screenings(database, storage, 3)
    target = BackupFolder(disk / "backups")
    earlier = write_backup(settings, database, target)
    storage.put("something-large", b"\1" * 4_000_000)
    filler = fill(disk, leave=2_000_000)
    with pytest.raises(BackupError, match=r"no room|full"):
        write_backup(settings, database, target)
    filler.unlink()
    filler = fill(disk)
    with pytest.raises(BackupError, match=r"no room|full"):
        write_backup(settings, database, target)
    filler.unlink()
    assert target.names() == [earlier]
    done = restore_backup(settings_on(tmp_path / "new"), target, None, overwrite=False)
    assert done.screenings == 3
    assert write_backup(settings, database, target) != earlier
    database.close()


def test_checkpoint_and_exported_file_are_old_or_new(disk: Path) -> None:
    checkpoint, exported = disk / "checkpoint.pt", disk / "classifier.onnx"
    save_checkpoint(checkpoint, {"step": 1, "weights": torch.ones(1000)})
    write_whole(exported, b"old")
    filler = fill(disk, leave=1_000_000)
    with pytest.raises((OSError, RuntimeError)):
        save_checkpoint(checkpoint, {"step": 2, "weights": torch.ones(1_000_000)})
    with pytest.raises(OSError, match="No space left"):
        write_whole(exported, b"\1" * 4_000_000)
    assert load_checkpoint(checkpoint)["step"] == 1
    assert exported.read_bytes() == b"old"
    assert set(disk.iterdir()) == {checkpoint, exported, filler}
    filler.unlink()
    save_checkpoint(checkpoint, {"step": 2, "weights": torch.ones(1_000_000)})
    assert load_checkpoint(checkpoint)["step"] == 2
