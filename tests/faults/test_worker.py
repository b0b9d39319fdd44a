"""Workers and trainers that are killed, stopped, told twice or not told at all."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import typer

from app import doorbell, runs
from app.db import Database, now
from app.kinds import KINDS
from app.migrations import upgrade
from app.models import Run, RunQueue, RunStatus
from app.settings import Settings
from ml.cli_common import until_stopped
from ml.errors import CheckpointError
from tests.conftest import leave_out
from tests.faults import stand_in
from tests.postgres import fresh_database

ROOT = Path(__file__).parents[2]
WORKER = "from tests.faults.stand_in import register; register(); from app.cli import main; main()"
# Short, so that tests need not wait; a busy machine still renews it four times.
LEASE_S = 3.0


@dataclass
class Deployment:
    """A database, a broker, a home folder, and the workers started on them."""

    settings: Settings
    database: Database
    data: Path
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self, *, rung: bool = True, **options: Any) -> uuid.UUID:
        with self.database.session() as session:
            run = runs.create(
                session, stand_in.KIND, {"data": self.data} | options, requested_by="test"
            )
        if rung:
            self.ring(run.id)
        return run.id

    def ring(self, run_id: uuid.UUID) -> None:
        doorbell.ring(self.settings, self.run(run_id))

    def worker(self) -> "subprocess.Popen[bytes]":
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("XRAY_")}
        with (self.settings.home / "workers.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-c", WORKER, "worker", "--lease", str(LEASE_S)],
                cwd=ROOT,
                env=inherited
                | {
                    "XRAY_HOME": str(self.settings.home),
                    "XRAY_DATABASE_URL": self.settings.effective_database_url,
                    "XRAY_BROKER_URL": self.settings.broker_url,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(worker)
        return worker

    def run(self, run_id: uuid.UUID) -> Run:
        with self.database.session() as session:
            return runs.get_run(session, run_id)

    def trainers(self, run_id: uuid.UUID) -> list[int]:
        """The process of every trainer that was started for a run."""
        starts = self.settings.home / "runs" / str(run_id) / "starts.txt"
        return [int(line) for line in starts.read_text().split()] if starts.exists() else []

    def wait(self, run_id: uuid.UUID, until: Callable[[Run], bool]) -> Run:
        wait_for(lambda: until(self.run(run_id)), lambda: self.story(run_id))
        return self.run(run_id)

    def wait_until_training(self, run_id: uuid.UUID, attempt: int = 1) -> int:
        """Wait until a trainer has done a step; its process."""
        counter = self.settings.home / "runs" / str(run_id) / "counter.txt"
        wait_for(
            lambda: len(self.trainers(run_id)) == attempt and counter.exists(),
            lambda: self.story(run_id),
        )
        return self.trainers(run_id)[-1]

    def story(self, run_id: uuid.UUID) -> str:
        row = {name: value for name, value in vars(self.run(run_id)).items() if name[0] != "_"}
        return f"{row}\n{(self.settings.home / 'workers.log').read_text()}"

    def close(self) -> None:
        with self.database.session() as session:
            left = [run.id for run in runs.list_runs(session, limit=1000)]
        trainers = [pid for run_id in left for pid in self.trainers(run_id)]
        for worker in self.workers:
            worker.kill()
            worker.wait()
        wait_for(lambda: not any(map(is_alive, trainers)), lambda: f"alive: {trainers}")
        with self.database.session() as session:
            for run_id in left:
                if runs.get_run(session, run_id).status in (RunStatus.QUEUED, RunStatus.RUNNING):
                    runs.request_cancel(session, run_id, requested_by="test")
        self.database.close()


def wait_for(condition: Callable[[], bool], story: Callable[[], str]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain: {story()}")
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ended(run: Run) -> bool:
    return run.status not in (RunStatus.QUEUED, RunStatus.RUNNING)


@contextmanager
def redis_server(port: int) -> Iterator["subprocess.Popen[bytes]"]:
    if not shutil.which("redis-server"):
        leave_out("no Redis server here, and none that could be started")
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: answers(f"redis://127.0.0.1:{port}/0"), lambda: "no answer from Redis")
        yield server
    finally:
        server.kill()
        server.wait()


def answers(url: str) -> bool:
    with closing(redis.Redis.from_url(url)) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    usual = "redis://127.0.0.1:6379/15"
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


@contextmanager
def deployed(folder: Path, database_url: str = "", broker_url: str = "") -> Iterator[Deployment]:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (folder / "manifest.csv").touch()
    settings = Settings(_env_file=None, home=home, database_url=database_url, broker_url=broker_url)
    database = Database(settings.effective_database_url)
    upgrade(database.engine)
    deployment = Deployment(settings, database, folder)
    try:
        yield deployment
    finally:
        deployment.close()


@pytest.fixture(autouse=True)
def stand_in_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, stand_in.KIND, stand_in.kind())


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Deployment]:
    """SQLite, and messages in a folder."""
    with deployed(tmp_path) as deployment:
        yield deployment


@pytest.fixture(params=["embedded", "postgresql and redis"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """Everything embedded, or a database and a broker of their own."""
    if request.param == "embedded":
        yield request.getfixturevalue("embedded")
        return
    urls = [request.getfixturevalue(name) for name in ("postgres_url", "redis_url")]
    with deployed(tmp_path, *urls) as deployment:
        yield deployment


def test_run_is_done_and_one_told_of_fifty_times_is_done_once(deployment: Deployment) -> None:
    run_id = deployment.start(steps=4)
    for _ in range(49):
        deployment.ring(run_id)
    deployment.worker()
    deployment.worker()
    run = deployment.wait(run_id, ended)
    # Another one, rung for after the fifty, is done when they have been heard.
    deployment.wait(deployment.start(steps=1), ended)
    assert (run.status, run.attempts, run.reason) == (RunStatus.SUCCEEDED, 1, None)
    assert len(deployment.trainers(run_id)) == 1
    assert run.progress == {
        "step": 4,
        "of": 4,
        "eta_s": 0.0,
        "films_per_second": None,
        "metrics": {"loss": 0.25, "odd": None, "seconds": 0.05},
    }
    assert run.log_tail == "beginning after step 0\n"


def test_killed_trainer_is_started_again_and_resumes(deployment: Deployment) -> None:
    run_id = deployment.start(steps=30)
    deployment.worker()
    os.kill(deployment.wait_until_training(run_id), signal.SIGKILL)
    run = deployment.wait(run_id, ended)
    assert (run.status, run.attempts) == (RunStatus.SUCCEEDED, 2)
    assert "beginning after step 0" in run.log_tail
    assert run.log_tail.count("beginning after step 0") == 1
    assert run.log_tail.count("beginning") == 2


def test_killed_worker_takes_its_trainer_with_it_and_another_resumes(
    deployment: Deployment,
) -> None:
    run_id = deployment.start(steps=40)
    first = deployment.worker()
    trainer = deployment.wait_until_training(run_id)
    deployment.worker()
    first.kill()
    first.wait()
    wait_for(lambda: not is_alive(trainer), lambda: "the trainer outlived its worker")
    run = deployment.wait(run_id, ended)
    assert (run.status, run.attempts) == (RunStatus.SUCCEEDED, 2)
    assert run.log_tail.count("beginning after step 0") == 1


def test_stopped_worker_gives_its_run_back_and_another_resumes_at_once(
    deployment: Deployment,
) -> None:
    run_id = deployment.start(steps=40)
    first = deployment.worker()
    trainer = deployment.wait_until_training(run_id)
    first.terminate()
    assert first.wait(10) == 0
    assert not is_alive(trainer)
    run = deployment.run(run_id)
    assert (run.status, run.attempts, run.lease_owner) == (RunStatus.QUEUED, 0, None)
    deployment.worker()
    run = deployment.wait(run_id, ended)
    assert (run.status, run.attempts) == (RunStatus.SUCCEEDED, 1)
    assert len(deployment.trainers(run_id)) == 2
    assert run.log_tail.count("beginning after step 0") == 1


def test_cancelled_run_stops_also_where_its_trainer_is_stubborn(embedded: Deployment) -> None:
    run_id = embedded.start(steps=10_000, stubborn=True)
    embedded.worker()
    trainer = embedded.wait_until_training(run_id)
    with embedded.database.session() as session:
        runs.request_cancel(session, run_id, requested_by="test")
    assert embedded.wait(run_id, ended).status is RunStatus.CANCELLED
    assert not is_alive(trainer)


def test_failed_run_says_why_and_is_not_repeated(embedded: Deployment) -> None:
    run_id = embedded.start(steps=9, fail_at=3)
    embedded.worker()
    run = embedded.wait(run_id, ended)
    assert (run.status, run.attempts) == (RunStatus.FAILED, 1)
    assert run.reason == "no luck in step 3"
    assert run.progress["step"] == 2


def test_trainer_killed_every_time_is_given_up(embedded: Deployment) -> None:
    run_id = embedded.start(steps=10_000)
    embedded.worker()
    for attempt in (1, 2, 3):
        os.kill(embedded.wait_until_training(run_id, attempt), signal.SIGKILL)
    run = embedded.wait(run_id, ended)
    assert (run.status, run.attempts) == (RunStatus.FAILED, 3)
    assert run.reason == "the trainer was killed by signal 9; no attempt is left"


def test_worker_that_slept_over_its_lease_loses_the_run(embedded: Deployment) -> None:
    run_id = embedded.start(steps=10_000)
    sleeper = embedded.worker()
    trainer = embedded.wait_until_training(run_id)
    sleeper.send_signal(signal.SIGSTOP)
    embedded.wait(run_id, lambda run: run.lease_until is not None and run.lease_until < now())
    embedded.worker()
    embedded.wait(run_id, lambda run: run.attempts == 2)
    # The sleeper's trainer is awake: two in one folder would spoil each other's work.
    assert is_alive(trainer)
    assert embedded.trainers(run_id) == [trainer]
    sleeper.send_signal(signal.SIGCONT)
    wait_for(lambda: len(embedded.trainers(run_id)) == 2, lambda: embedded.story(run_id))
    assert not is_alive(trainer)


def test_run_that_nobody_was_told_of_is_found(embedded: Deployment) -> None:
    run_id = embedded.start(steps=1, rung=False)
    embedded.worker()
    assert embedded.wait(run_id, ended).status is RunStatus.SUCCEEDED


def test_message_that_is_still_being_written_harms_nobody(embedded: Deployment) -> None:
    first = embedded.start(steps=1)
    (message,) = (embedded.settings.home / "broker" / "messages").iterdir()
    message.write_bytes(b"")
    embedded.worker()
    embedded.wait(first, ended)
    wait_for(lambda: not message.exists(), lambda: embedded.story(first))
    assert embedded.wait(embedded.start(steps=1), ended).status is RunStatus.SUCCEEDED
    assert embedded.workers[0].poll() is None


def test_ringing_takes_no_longer_than_two_seconds_whatever_the_broker_does(tmp_path: Path) -> None:
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        for port in (deaf.getsockname()[1], free_port()):
            settings = Settings(
                _env_file=None, home=tmp_path, broker_url=f"redis://127.0.0.1:{port}/0"
            )
            began = time.monotonic()
            doorbell.ring(settings, Run(id=uuid.uuid4(), queue=RunQueue.CPU))
            assert time.monotonic() - began < 2


def test_run_is_done_though_there_is_no_broker_at_all(tmp_path: Path) -> None:
    with deployed(tmp_path, broker_url=f"redis://127.0.0.1:{free_port()}/0") as deployment:
        worker = deployment.worker()
        run_id = deployment.start(steps=1)
        assert deployment.wait(run_id, ended).status is RunStatus.SUCCEEDED
        worker.terminate()
        assert worker.wait(10) == 0


def test_worker_outlives_its_broker_and_hears_it_again(tmp_path: Path) -> None:
    port = free_port()
    with deployed(tmp_path, broker_url=f"redis://127.0.0.1:{port}/0") as deployment:
        with redis_server(port):
            first = deployment.start(steps=30)
            deployment.worker()
            deployment.wait_until_training(first)
        second = deployment.start(steps=1)
        assert deployment.wait(first, ended).status is RunStatus.SUCCEEDED
        assert deployment.wait(second, ended).status is RunStatus.SUCCEEDED
        log = deployment.settings.home / "workers.log"
        assert f"rung for run {second}" not in log.read_text()
        with redis_server(port):
            deployment.ring(second)
            wait_for(lambda: f"rung for run {second}" in log.read_text(), log.read_text)


def test_trainer_told_to_end_says_so_by_its_exit_status() -> None:
    def train() -> None:
        with until_stopped() as should_stop:
            assert not should_stop()
            signal.raise_signal(signal.SIGTERM)
            assert should_stop()
            raise CheckpointError("stopped before the first epoch ended")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as end:
        train()
    assert end.value.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_trainer_that_was_not_told_to_end_keeps_its_error() -> None:
    with pytest.raises(CheckpointError), until_stopped():
        raise CheckpointError("other options")
