"""The worker: takes runs one after another, rung for or found, and sees each through."""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Collection
from concurrent.futures import Executor, Future
from typing import Any, BinaryIO

from celery import bootsteps, signals

from app.core.database import Database, now
from app.core.logging import configure_logging
from app.runs import broker as doorbell
from app.runs import queue as runs
from app.runs import schedules
from app.runs.celery_broker import EXECUTE, create_celery
from app.runs.heartbeat import alive_file
from app.runs.tables import Run, RunQueue
from app.settings import Settings
from app.worker.attempt import Attempt
from app.worker.gpu_lock import take_device

logger = logging.getLogger(__name__)
LEASE_S = 30.0


class Worker:
    """Does the runs of some queues, one after another, until it is told to stop.

    It hears of them from the broker at once, and looks for them itself now and then: those that
    nobody rang for, and those that dead workers held.

    Args:
        settings: where the database, the broker and the runs' folders are.
        queues: which runs to take.
        lease_s: seconds after which others take over from this worker if it dies. It renews its
            lease, and looks for runs, fifteen times as often.

    """

    def __init__(self, settings: Settings, queues: Collection[RunQueue], lease_s: float = LEASE_S):
        self.queues = queues
        self.lease_s = lease_s
        self.beat_s = lease_s / 15
        self.settings = settings
        self.runs_folder = settings.home_folder.runs
        self.database = Database(settings.effective_database_url)
        self.stopping = threading.Event()
        self._celery = create_celery(settings)
        self._busy = False
        self._given_back: list[Run] = []
        self._alive_file = alive_file(settings)
        self._alive_file.parent.mkdir(parents=True, exist_ok=True)

    def work(self) -> int:
        """Work until SIGTERM or SIGINT; the exit status."""
        steps: dict[str, set[Any]] = self._celery.steps
        steps["worker"].add(_Patrol)

        @self._celery.task(name=EXECUTE)
        def execute(run_id: str) -> None:
            self.execute(uuid.UUID(run_id))

        # Celery then leaves the logging alone.
        signals.setup_logging.connect(self._configure_logging, weak=False)
        # Celery itself acts on a signal only seconds later.
        signals.worker_shutting_down.connect(self.stop, weak=False)
        celery_worker = self._celery.Worker(
            queues=[queue.value for queue in self.queues],
            # The trainer is a process of its own; what runs here only watches it.
            pool="threads",
            concurrency=1,
            hostname=f"xray-{os.getpid()}@{socket.gethostname()}",
            loglevel="INFO",
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            run_worker=self,
        )
        celery_worker.start()
        # Rung for only now, as this worker would have heard it itself.
        for run in self._given_back:
            doorbell.ring(self.settings, run)
        self.database.close()
        return int(celery_worker.exitcode or 0)

    def _configure_logging(self, **_about: Any) -> None:
        configure_logging(self.settings)

    def execute(self, rung_for: uuid.UUID) -> None:
        """Take the run that goes first, be it the one rung for or another, and see it through."""
        if self.stopping.is_set():
            return
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        run, device = self._claim(owner)
        if run is None:
            logger.info("rung for run %s, which is taken or over, and no other waits", rung_for)
            return
        self._busy = True
        try:
            Attempt(self, run, owner, device).see_through()
        finally:
            self._busy = False
            if device:
                device.close()

    def _claim(self, owner: str) -> tuple[Run | None, BinaryIO | None]:
        """The run that goes first among those there is a device for, and the lock of its GPU."""
        device = take_device(self.settings) if RunQueue.GPU in self.queues else None
        try:
            with self.database.session() as session:
                run = runs.claim_next(session, self._open(device), owner, self.lease_s)
        except BaseException:
            if device:
                device.close()
            raise
        if device and (run is None or run.queue is not RunQueue.GPU):
            device.close()
            device = None
        return run, device

    def _open(self, device: BinaryIO | None) -> list[RunQueue]:
        """The queues of which a run can be begun now."""
        return [queue for queue in self.queues if queue is not RunQueue.GPU or device]

    def patrol(self, pool: Executor) -> None:
        """Look for runs until the worker stops, and do them in the pool."""
        while True:
            try:
                self._look(pool)
                self._alive_file.touch()
            except Exception:
                # The database or the disk may be away for a while. Without this thread nobody would
                # find runs that were not rung for, and nobody would notice.
                logger.exception("cannot look for runs; trying again in %g s", self.beat_s)
            if self.stopping.wait(self.beat_s):
                return

    def _look(self, pool: Executor) -> None:
        with self.database.session() as session:
            waiting = [runs.get_run(session, run_id) for run_id in runs.reap(session)]
        waiting += schedules.start_due(self.database, now())
        for run in waiting:
            if self._busy or run.queue not in self.queues:
                doorbell.ring(self.settings, run)
        if self._busy:
            return
        device = take_device(self.settings) if RunQueue.GPU in self.queues else None
        with self.database.session() as session:
            first = runs.next_queued(session, self._open(device))
        if device:
            device.close()
        for run_id in first:
            pool.submit(self.execute, run_id).add_done_callback(_log_fault)

    def offer(self, run: Run) -> None:
        """Have a run taken up that this worker had to leave."""
        if self.stopping.is_set():
            self._given_back.append(run)
        else:
            doorbell.ring(self.settings, run)

    def stop(self, **_about: Any) -> None:
        """Take no further run, and end the one in hand."""
        self.stopping.set()


class _Patrol(bootsteps.StartStopStep):
    """Ties a worker to the Celery worker it runs in: begins and stops with it."""

    # Not the broker: what is done for want of one needs the pool alone.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, run_worker: Worker, **options: Any):
        super().__init__(parent, **options)
        self._run_worker = run_worker

    def start(self, parent: Any) -> None:
        """Look for runs as soon as there is somebody to do them."""
        # The pool of one thread, so that a run that was rung for does not begin beside another.
        self._thread = threading.Thread(
            target=self._run_worker.patrol, args=(parent.pool.executor,), daemon=True
        )
        self._thread.start()

    def close(self, _parent: Any) -> None:
        """Celery stops, be it by a signal or by a fault, and will wait for the run in hand."""
        self._run_worker.stop()

    def stop(self, _parent: Any) -> None:
        """Wait for the last look."""
        self._thread.join()


def _log_fault(doing: "Future[None]") -> None:
    if not doing.cancelled() and (fault := doing.exception()):
        logger.error("a run was left to its lease", exc_info=fault)
