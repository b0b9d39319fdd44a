"""Deployments to break: everything embedded, and a separate database and broker."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.runs.run_types import RUN_TYPES
from tests.conftest import leave_out
from tests.faults import stand_in
from tests.faults.deployment import Deployment, answers, deployed, free_port, redis_server
from tests.support.postgres import fresh_database


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    # Tests in the process beside this one have a separate database.
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    usual = f"redis://127.0.0.1:6379/{15 - process % 8}"
    if answers(usual):
        yield usual
        return
    port = free_port()
    with redis_server(port):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with fresh_database() as url:
        if url is None:
            leave_out("no PostgreSQL server here, and none that could be started")
        yield str(url)


@pytest.fixture(autouse=True)
def stand_in_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUN_TYPES, stand_in.StandIn.name, stand_in.StandIn())
    monkeypatch.setitem(RUN_TYPES, stand_in.ShortStandIn.name, stand_in.ShortStandIn())


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Deployment]:
    """SQLite, and messages in a folder."""
    with deployed(tmp_path) as deployment:
        yield deployment


@pytest.fixture(params=["embedded", "postgresql and redis"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """Everything embedded, or a separate database and broker."""
    if request.param == "embedded":
        yield request.getfixturevalue("embedded")
        return
    urls = [request.getfixturevalue(name) for name in ("postgres_url", "redis_url")]
    with deployed(tmp_path, *urls) as deployment:
        yield deployment
