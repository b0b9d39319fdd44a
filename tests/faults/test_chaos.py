"""Everything is killed at random moments, and every run is done exactly once."""

import json
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from app.registry.tables import ModelVersion
from app.runs.tables import Run, RunStatus
from tests.faults import counting_program, stand_in
from tests.faults.deployment import (
    LEASE_S,
    Deployment,
    deployed,
    ended,
    redis_server,
    wait_for,
)
from tests.support.ports import free_port

RUNS, STEPS = 20, 10
KILLS = ("worker", "trainer", "broker", "worker", "trainer", "broker", "server")


class Broker:
    """Messages in a folder, or a Redis server of our own, which loses them when it is killed."""

    def __init__(self, url: str, home: Path):
        self._port = int(url.rpartition(":")[2].partition("/")[0]) if url else 0
        self._messages = home / "broker" / "messages"
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        if self._port:
            self._running.enter_context(redis_server(self._port))

    def kill(self) -> None:
        for message in self._messages.glob("*"):
            message.unlink(missing_ok=True)
        self._running.close()


@pytest.fixture(params=["embedded", "postgresql and redis"])
def breakable(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Deployment, Broker]]:
    urls = ("", "")
    if request.param != "embedded":
        urls = (request.getfixturevalue("postgres_url"), f"redis://127.0.0.1:{free_port()}/0")
    (tmp_path / "home").mkdir()
    broker = Broker(urls[1], tmp_path / "home")
    try:
        with deployed(tmp_path, *urls) as deployment:
            yield deployment, broker
    finally:
        broker.kill()


@pytest.mark.timeout(600)
def test_runs_are_done_once_each_whatever_is_killed(breakable: tuple[Deployment, Broker]) -> None:
    deployment, broker = breakable
    chance = random.Random(5)
    ids = [
        deployment.start(
            notified=chance.random() < 0.5,
            max_attempts=50,
            steps=STEPS,
            step_s=0.02,
            registers=True,
            completing_s=0.1,
        )
        for _ in range(RUNS)
    ]
    worker, server = deployment.worker(), deployment.server()
    wait_for(lambda: bool(running(deployment, ids)), deployment.log.read_text)
    left: dict[uuid.UUID, tuple[int, float]] = {}
    for victim in chance.sample(KILLS, len(KILLS)):
        time.sleep(chance.uniform(0.1, 0.7))
        if victim == "worker":
            left |= held_by(deployment, ids, worker)
            worker.kill()
            worker = deployment.worker()
        elif victim == "server":
            server.kill()
            server = deployment.server()
        elif victim == "broker":
            broker.kill()
            broker.start()
        else:
            kill_a_trainer(deployment, chance)
    # A run that lost its worker continues when the lease is over.
    for run_id, (attempts, killed_at) in left.items():
        deployment.wait(run_id, lambda run, before=attempts: run.attempts > before or ended(run))
        # A busy machine takes some seconds for each run that comes before it.
        assert time.monotonic() - killed_at < LEASE_S + 100
    for run_id in ids:
        run = deployment.wait(run_id, ended)
        assert run.status is RunStatus.SUCCEEDED, run.reason
    assert_registered_once(deployment, ids)
    server.terminate()
    worker.terminate()
    assert server.wait(60) in (0, 128 + signal.SIGTERM)
    assert worker.wait(60) == 0
    wait_for(lambda: not deployment.alive(), lambda: f"left: {deployment.alive()}")


def running(deployment: Deployment, ids: list[uuid.UUID]) -> list[Run]:
    found = [deployment.run(run_id) for run_id in ids]
    return [run for run in found if run.status is RunStatus.RUNNING]


def held_by(
    deployment: Deployment, ids: list[uuid.UUID], worker: "subprocess.Popen[bytes]"
) -> dict[uuid.UUID, tuple[int, float]]:
    """The run that a worker is at, its attempts and the present time."""
    return {
        run.id: (run.attempts, time.monotonic())
        for run in running(deployment, ids)
        if f":{worker.pid}:" in (run.lease_owner or "")
    }


def kill_a_trainer(deployment: Deployment, chance: random.Random) -> None:
    """Kill one of the trainers that are alive, as soon as there is one."""

    def has_killed() -> bool:
        trainers = [each for each in deployment.alive() if is_trainer(each)]
        if not trainers:
            return False
        try:
            chance.choice(trainers).kill()
        except psutil.NoSuchProcess:  # it has ended, also where another one has its number now
            return False
        return True

    wait_for(has_killed, story(deployment))


def is_trainer(process: psutil.Process) -> bool:
    return counting_program.__name__ in words_of(process)


def words_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty if it has ended meanwhile, also where it is a zombie."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def assert_registered_once(deployment: Deployment, ids: list[uuid.UUID]) -> None:
    with deployment.database.session() as session:
        models = session.scalars(select(ModelVersion).where(ModelVersion.run_id.in_(ids))).all()
    assert sorted(str(model.run_id) for model in models) == sorted(map(str, ids))
    for model in models:
        folder = deployment.settings.home / str(model.folder)
        assert (folder / stand_in.MODEL).read_text() == str(STEPS)
        run = deployment.run(model.run_id or uuid.UUID(int=0))
        assert run.result == {"classifier": model.sha256, "version": "counted"}
        assert run.progress["step"] == STEPS
        rows = (deployment.settings.home / "runs" / str(run.id) / "metrics.jsonl").read_text()
        assert {json.loads(row)["step"] for row in whole(rows)} == set(range(1, STEPS + 1))


def whole(rows: str) -> list[str]:
    """The rows that no killed trainer left unfinished."""
    return [row for row in rows.splitlines() if row.startswith("{") and row.endswith("}")]


def test_server_keeps_a_worker_and_takes_it_along(embedded: Deployment) -> None:
    server = embedded.server()

    def workers() -> list[psutil.Process]:
        return [each for each in embedded.alive() if "worker" in words_of(each)]

    wait_for(lambda: bool(workers()), embedded.log.read_text)
    (first,) = workers()
    run_id = embedded.start(steps=10_000)
    embedded.wait_until_training(run_id)
    assert first.nice() > psutil.Process(server.pid).nice()
    first.kill()
    wait_for(lambda: [each.pid for each in workers()] not in ([], [first.pid]), story(embedded))
    server.kill()
    server.wait()
    wait_for(lambda: not embedded.alive(), story(embedded))


def story(deployment: Deployment) -> Callable[[], str]:
    return lambda: f"{deployment.alive()}\n{deployment.log.read_text()}"
