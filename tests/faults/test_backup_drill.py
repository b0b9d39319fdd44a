"""The drill: back up under load, lose everything, restore, and find everything again."""

import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from app.accounts.api_keys import create_key
from app.accounts.tables import ApiKey, Clinic
from app.core.audit import AuditEvent
from app.core.database import Database
from app.registry.registration import register_classifier
from app.registry.tables import ModelVersion
from app.screenings.tables import Screening
from app.settings import Settings
from tests.faults.deployment import wait_for
from tests.support import REPOSITORY
from tests.support.ports import free_port
from tests.support.tiny_models import DATABASES, own_database, settings_for, write_classifier

TABLES = (Screening, AuditEvent, ModelVersion, Clinic, ApiKey)
Rows = dict[str, dict[str, tuple[object, ...]]]


def environment(settings: Settings) -> dict[str, str]:
    inherited = {name: own for name, own in os.environ.items() if not name.startswith("XRAY_")}
    return inherited | {
        "XRAY_HOME": str(settings.home),
        "XRAY_DATABASE_URL": settings.database_url,
        "XRAY_DECODER_WORKERS": "1",
        "XRAY_MIN_FREE_MB": "0",
        "COLUMNS": "200",
    }


def xray(settings: Settings, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "app", *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(settings: Settings, log: Path) -> Iterator[str]:
    port = free_port()
    with log.open("ab") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--no-worker", "--port", str(port)],
            cwd=REPOSITORY,
            env=environment(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}/readyz", server, log)
        yield f"http://127.0.0.1:{port}/api/v1/screenings"
    finally:
        # As a machine that fails: nothing is closed in order.
        server.kill()
        server.wait()


def _wait_until_ready(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the server is not ready:\n{log.read_text()}")


class Uploads:
    """A clinic that uploads without a pause, from two connections."""

    def __init__(self, url: str, key: str, image: bytes) -> None:
        self.answered: list[uuid.UUID] = []
        self.faults: list[str] = []
        self._url, self._image, self._stop = url, image, threading.Event()
        self._headers = {"Authorization": f"Bearer {key}"}
        self._threads = [threading.Thread(target=self._upload) for _ in range(2)]

    def _upload(self) -> None:
        with httpx2.Client(headers=self._headers, timeout=30) as client:
            while not self._stop.is_set():
                answer = client.post(self._url, files={"image": self._image})
                if answer.status_code == 201:
                    self.answered.append(uuid.UUID(answer.json()["id"]))
                else:
                    self.faults.append(answer.text)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while len(self.answered) < count:
            assert time.monotonic() < deadline, self.faults
            time.sleep(0.02)


def rows(database: Database) -> Rows:
    with database.sessions() as session:
        return {table.__tablename__: dict(_rows_of(session, table)) for table in TABLES}


def unfiled_models(database: Database) -> list[str]:
    """Models whose files are not in the home folder yet."""
    with database.sessions() as session:
        query = select(ModelVersion.sha256).where(ModelVersion.folder.is_(None))
        return list(session.scalars(query))


def _rows_of(session: Any, table: Any) -> Iterator[tuple[str, tuple[object, ...]]]:
    keys = [column.name for column in table.__table__.primary_key]
    for row in session.execute(select(table.__table__)).mappings():
        yield str([row[key] for key in keys]), tuple(map(repr, row.values()))


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def lose_everything(settings: Settings, database: Database) -> None:
    shutil.rmtree(settings.home)
    if database.engine.dialect.name == "postgresql":
        with database.engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
    database.close()


@pytest.mark.parametrize("kind", DATABASES)
def test_backup_under_load_restores_every_row_image_and_model(
    kind: str, tmp_path: Path, image_bytes: bytes
) -> None:
    with own_database(kind, tmp_path) as url:
        home, target = tmp_path / "home", tmp_path / "backups"
        # SQLite in the home folder, as by default, so that it is lost with it.
        settings = settings_for("" if kind == "sqlite" else url, home)
        xray(settings, "db", "upgrade")
        database = Database(settings.effective_database_url)
        write_classifier(tmp_path / "bundle", version="drill", answer="normal")
        with database.session() as session:
            register_classifier(session, settings, tmp_path / "bundle", run=None, by="drill")
            key = create_key(session, "North", "drill")
        run = settings.home_folder.run(uuid.uuid4())
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text('{"step": 1}\n')

        with serving(settings, tmp_path / "server.log") as screenings:
            uploads = Uploads(screenings, key, image_bytes)
            with uploads.going_on():
                uploads.wait_for(20)
                # The server files the released models while it already answers.
                wait_for(lambda: not unfiled_models(database), lambda: "models without files")
                before, images = rows(database), files(settings.home_folder.artefacts)
                answered = list(uploads.answered)
                printed = xray(settings, "backup", target)
                uploads.wait_for(len(uploads.answered) + 5)
            assert not uploads.faults
        kept = {part: files(home / part) for part in ("models", "data", "runs")}
        secret = settings.home_folder.secret_key.read_text()
        assert "images:" in printed
        lose_everything(settings, database)

        said = xray(settings, "restore", target)
        assert "checked" in said
        database = Database(settings.effective_database_url)
        after = rows(database)
        database.close()
        for table, found in before.items():
            assert found.items() <= after[table].items(), table
        assert {f"[{screening!r}]" for screening in answered} <= after["screening"].keys()
        assert images.items() <= files(settings.home_folder.artefacts).items()
        assert {part: files(home / part) for part in kept} == kept
        assert settings.home_folder.secret_key.read_text() == secret
        with serving(settings, tmp_path / "server.log") as screenings:
            headers = {"Authorization": f"Bearer {key}"}
            for screening in answered:
                address = f"{screenings}/{screening}"
                assert httpx2.get(address, headers=headers).status_code == 200
                heatmap = httpx2.get(f"{address}/heatmap.png", headers=headers)
                assert heatmap.status_code == 200
            files_sent = {"image": image_bytes}
            again = httpx2.post(screenings, headers=headers, files=files_sent, timeout=30)
            assert again.status_code == 201
