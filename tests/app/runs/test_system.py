"""The page of workers, queue, disk and versions."""

import re
import uuid
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import delete
from starlette.testclient import TestClient

from app.core.amounts import size
from app.core.database import Database, now
from app.core.disk_use import DiskMeter, folder_bytes
from app.runs.heartbeat import Heartbeat
from app.runs.tables import Run, RunLane, RunQueue, RunStatus
from app.settings import Settings


@pytest.fixture
def database(application: FastAPI) -> Iterator[Database]:
    database: Database = application.state.services.database
    yield database
    with database.session() as session:
        session.execute(delete(Run))


def add(database: Database, run_type: str, **values: object) -> None:
    with database.session() as session:
        session.add(
            Run(
                id=uuid.uuid4(),
                run_type=run_type,
                options={},
                queue=RunQueue.CPU,
                requested_by="test",
                **values,
            )
        )


def test_page_shows_who_does_what_and_what_waits(
    admin: TestClient, settings: Settings, database: Database
) -> None:
    heartbeat = Heartbeat(settings, [RunQueue.CPU, RunQueue.GPU], list(RunLane), "NVIDIA H200")
    heartbeat.beat()
    sign = heartbeat.sign
    add(
        database,
        "train-gan",
        name="At work",
        status=RunStatus.RUNNING,
        started_at=now(),
        lease_owner=f"{sign.host}:{sign.pid}:1234",
    )
    add(database, "train-gan", name="Waiting")
    page = unescape(admin.get("/admin/system").text)
    heartbeat.end()
    worker = page[page.index(sign.host) : page.index("Queue</h2>")]
    assert "NVIDIA H200" in worker
    assert "At work" in worker
    assert re.search(r"CPU, long runs</th><td>1</td><td>1</td><td>yes", page)
    assert re.search(r"CPU, short runs</th><td>0</td><td>0</td><td>yes", page)
    assert ">Waiting</a>" in page
    assert "Free in the home folder" in page
    assert re.search(r"Database schema</dt><dd>\d{4}</dd>", page)
    assert "/xray.db" not in page
    assert str(settings.home) not in page


def test_queue_that_no_worker_serves_is_pointed_out(admin: TestClient, database: Database) -> None:
    add(database, "evaluate-gan")
    page = admin.get("/admin/system").text
    assert "No worker is running" in page
    assert re.search(r"CPU, short runs</th><td>1</td><td>0</td><td>no worker", page)


def test_only_admins_see_the_system(clinician: TestClient, visitor: TestClient) -> None:
    assert clinician.get("/admin/system").status_code == 403
    assert visitor.get("/admin/system").status_code == 303


def test_disk_space_is_that_of_all_files_and_measured_now_and_then(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"x" * 700)
    (tmp_path / "d").write_bytes(b"x" * 50)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert folder_bytes(tmp_path) == 750
    assert folder_bytes(tmp_path / "nothing") == 0
    meter = DiskMeter({"all": lambda: folder_bytes(tmp_path)})
    first = meter.read()
    (tmp_path / "e").write_bytes(b"x")
    assert meter.read() is first
    assert first.bytes == {"all": 750}


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1500, "1.5 kB"), (999_600, "1.0 MB"), (14e6, "14 MB"), (2.5e12, "2.5 TB")],
)
def test_sizes_have_few_digits(count: float, text: str) -> None:
    assert size(int(count)) == text
