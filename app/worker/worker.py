"""The worker: executes queued runs one after another, and polls for those without a message."""

import logging
import os
import socket
import uuid
from collections.abc import Collection
from concurrent.futures import Executor, Future
from typing import BinaryIO

from app.core.database import Database, now
from app.runs import queue as runs
from app.runs import schedules
from app.runs.broker import consume, notify_workers
from app.runs.heartbeat import alive_file
from app.runs.tables import Run, RunQueue
from app.settings import Settings
from app.worker.attempt import Attempt
from app.worker.context import WorkerContext
from app.worker.gpu_lock import lock_gpu

logger = logging.getLogger(__name__)
LEASE_S = 30.0


class Worker:
    """Executes the runs of some queues, one after another, until it is stopped.

    Messages of the broker start a run at once. Polling finds the others: runs whose message was
    lost, runs of dead workers, and what schedules start.

    Args:
        settings: of this installation.
        queues: which runs to execute.
        lease_s: seconds after which other workers take over from this one if it dies. It renews its
            lease, and polls, fifteen times as often.

    """

    def __init__(self, settings: Settings, queues: Collection[RunQueue], lease_s: float = LEASE_S):
        self.queues = queues
        self.settings = settings
        self.database = Database(settings.effective_database_url)
        self.context = WorkerContext(settings, self.database, lease_s, self._requeue)
        self._busy = False
        self._returned: list[Run] = []
        self._alive_file = alive_file(settings)
        self._alive_file.parent.mkdir(parents=True, exist_ok=True)

    def work(self) -> int:
        """Work until SIGTERM or SIGINT; the exit status."""
        status = consume(self.settings, self.queues, self)
        # Only now, as this worker would have received the messages itself.
        for run in self._returned:
            notify_workers(self.settings, run)
        self.database.close()
        return status

    def execute(self, run_id: uuid.UUID) -> None:
        """Execute the first run of the queue, whichever run the message was about."""
        if self.context.stopping.is_set():
            return
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        run, gpu = self._claim(owner)
        if run is None:
            logger.info("Run %s is taken or over, and no other is queued", run_id)
            return
        self._busy = True
        try:
            Attempt(self.context, run, owner, gpu).execute()
        finally:
            self._busy = False
            if gpu:
                gpu.close()

    def _claim(self, owner: str) -> tuple[Run | None, BinaryIO | None]:
        """Claim the first run that has a device here, with the lock of its GPU."""
        gpu = lock_gpu(self.settings) if RunQueue.GPU in self.queues else None
        try:
            with self.database.session() as session:
                run = runs.claim_next(session, self._available(gpu), owner, self.context.lease_s)
        except BaseException:
            if gpu:
                gpu.close()
            raise
        if gpu and (run is None or run.queue is not RunQueue.GPU):
            gpu.close()
            gpu = None
        return run, gpu

    def _available(self, gpu: BinaryIO | None) -> list[RunQueue]:
        """The queues whose device is available."""
        return [queue for queue in self.queues if queue is not RunQueue.GPU or gpu]

    def poll(self, pool: Executor) -> None:
        """Look for queued runs until the worker stops, and execute them in the pool."""
        while True:
            try:
                self._look(pool)
                self._alive_file.touch()
            except Exception:
                # The database or the disk may be away for a while. If this thread ended, runs
                # without a message would wait for ever.
                logger.exception("Cannot poll; trying again in %g s", self.context.heartbeat_s)
            if self.context.stopping.wait(self.context.heartbeat_s):
                return

    def _look(self, pool: Executor) -> None:
        with self.database.session() as session:
            queued = [runs.get_run(session, run_id) for run_id in runs.reap(session)]
        queued += schedules.start_due(self.database, now())
        for run in queued:
            if self._busy or run.queue not in self.queues:
                notify_workers(self.settings, run)
        if self._busy:
            return
        gpu = lock_gpu(self.settings) if RunQueue.GPU in self.queues else None
        with self.database.session() as session:
            first = runs.next_queued(session, self._available(gpu))
        if gpu:
            gpu.close()
        for run_id in first:
            pool.submit(self.execute, run_id).add_done_callback(_log_failure)

    def _requeue(self, run: Run) -> None:
        """Have another worker, or this one, take a run that continues later."""
        if self.context.stopping.is_set():
            self._returned.append(run)
        else:
            notify_workers(self.settings, run)

    def stop(self) -> None:
        """Start no further run and end the current one."""
        self.context.stopping.set()


def _log_failure(execution: "Future[None]") -> None:
    if not execution.cancelled() and (problem := execution.exception()):
        logger.error("An attempt failed; its run waits until the lease expires", exc_info=problem)
