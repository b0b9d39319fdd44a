"""A database, a broker, workers and a server, each a separate process that can be killed."""

import os
import shutil
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

from app.core.database import Database
from app.migrations import upgrade
from app.runs import broker
from app.runs import queue as runs
from app.runs.service import create_run
from app.runs.tables import Run, RunStatus
from app.settings import Settings
from tests.conftest import leave_out
from tests.faults import stand_in
from tests.support import REPOSITORY
from tests.support.ports import free_port

WORKER = "import sys; from tests.faults.stand_in import work; work(float(sys.argv[1]))"
# Short, so that tests need not wait; a busy machine still renews it four times.
LEASE_S = 3.0


@dataclass
class Deployment:
    """A database, a broker, a home folder, and the processes started on them."""

    settings: Settings
    database: Database
    data: Path
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(
        self,
        run_type: str = stand_in.StandIn.name,
        *,
        notified: bool = True,
        max_attempts: int = 3,
        **options: Any,
    ) -> uuid.UUID:
        with self.database.session() as session:
            run = create_run(
                session,
                run_type,
                {"data": self.data} | options,
                requested_by="test",
                max_attempts=max_attempts,
            )
        if notified:
            self.notify(run.id)
        return run.id

    def notify(self, run_id: uuid.UUID) -> None:
        broker.notify_workers(self.settings, self.run(run_id))

    def worker(self, lease_s: float = LEASE_S) -> "subprocess.Popen[bytes]":
        """A worker as of the command line, begun sooner than that."""
        return self._process("-c", WORKER, str(lease_s))

    def server(self) -> "subprocess.Popen[bytes]":
        """The pages, with a worker beside them."""
        return self._process("-m", "app.cli", "serve", "--port", str(free_port()))

    def _process(self, *arguments: str) -> "subprocess.Popen[bytes]":
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("XRAY_")}
        site = self.data / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(stand_in.SITE)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=REPOSITORY,
                env=inherited
                | {
                    "PYTHONPATH": f"{site}:{REPOSITORY}",
                    "XRAY_HOME": str(self.settings.home),
                    "XRAY_DECODER_WORKERS": "1",
                    "XRAY_DATABASE_URL": self.settings.effective_database_url,
                    "XRAY_BROKER_URL": self.settings.broker_url,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    @property
    def log(self) -> Path:
        """What all of them say."""
        return self.settings.home / "processes.log"

    def alive(self) -> list[psutil.Process]:
        """All processes of this deployment, including those started by other processes."""
        home = str(self.settings.home)
        return [each for each in psutil.process_iter() if _is_of(each, home)]

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
        return f"{row}\n{self.log.read_text() if self.log.exists() else ''}"

    def close(self) -> None:
        """Kill what is left, and see that it leaves nothing behind."""
        for process in self.processes:
            process.kill()
            process.wait()
        wait_for(lambda: not self.alive(), lambda: f"alive: {self.alive()}")
        with self.database.session() as session:
            for run in runs.list_runs(session, limit=1000):
                if run.status in (RunStatus.QUEUED, RunStatus.RUNNING):
                    runs.request_cancel(session, run.id, requested_by="test")
        self.database.close()


def _is_of(process: psutil.Process, home: str) -> bool:
    """Whether a process was started on a home folder: a worker, a server or a trainer."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
            return False
        return any(home in word for word in process.cmdline()) or (
            process.environ().get("XRAY_HOME") == home
        )
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def wait_for(condition: Callable[[], bool], story: Callable[[], str]) -> None:
    deadline = time.monotonic() + 120
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
