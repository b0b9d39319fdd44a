"""The worker: executes queued runs, one of each lane at a time, and polls for unannounced ones."""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Collection
from concurrent.futures import Executor, Future
from functools import partial
from typing import BinaryIO

from app.core.database import Database, now
from app.core.memory import available_memory
from app.runs import queue as runs
from app.runs import schedules
from app.runs.announcements import announce_end
from app.runs.broker import consume, notify_workers
from app.runs.heartbeat import Heartbeat
from app.runs.run_types import lane_of
from app.runs.tables import Run, RunLane, RunQueue, RunStatus
from app.settings import Settings
from app.worker.attempt import Attempt
from app.worker.context import WorkerContext
from app.worker.gpu_lock import lock_gpu
from app.worker.gpu_name import gpu_name

logger = logging.getLogger(__name__)
LEASE_S = 30.0


class Worker:
    """Executes the runs of some queues, one of each lane at a time, until it is stopped.

    So at most two programs are at work: a long run, and a short one that does not wait for it.
    Messages of the broker start a run at once. Polling finds the others: runs whose message was
    lost, runs of dead workers, and what schedules start.

    Args:
        settings: of this installation.
        queues: which runs to execute.
        lease_s: seconds after which other workers take over from this one if it dies. It renews its
            lease, and polls, fifteen times as often.
        lanes: which runs to execute.

    """

    def __init__(
        self,
        settings: Settings,
        queues: Collection[RunQueue],
        lease_s: float = LEASE_S,
        lanes: Collection[RunLane] = tuple(RunLane),
    ):
        self.queues = queues
        self.lanes = lanes
        self.settings = settings
        self.database = Database(settings.effective_database_url)
        self.context = WorkerContext(settings, self.database, lease_s, self._requeue)
        # Held while a run of the lane is executed.
        self._places = {lane: threading.Lock() for lane in lanes}
        self._returned: list[Run] = []
        self._heartbeat = Heartbeat(settings, list(queues), list(lanes), gpu_name())

    def work(self) -> int:
        """Work until SIGTERM or SIGINT; the exit status."""
        status = consume(self.settings, self.queues, self)
        # Only now, as this worker would have received the messages itself.
        for run in self._returned:
            notify_workers(self.settings, run)
        self._heartbeat.end()
        self.database.close()
        return status

    def execute(self, run_id: uuid.UUID) -> None:
        """Execute the first run of a free lane, whichever run the message was about."""
        for lane, place in self._places.items():
            if not place.acquire(blocking=False):
                continue
            try:
                if self._execute_first(lane):
                    return
            finally:
                place.release()
        logger.info("Run %s is taken, over, or waits for its lane", run_id)

    def _execute_first(self, lane: RunLane) -> bool:
        """Execute the first run of a lane; whether there was one."""
        if self.context.stopping.is_set() or not self._has_memory(lane):
            return False
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        run, gpu = self._claim(owner, lane)
        if run is None:
            return False
        try:
            Attempt(self.context, run, owner, gpu).execute()
        finally:
            if gpu:
                gpu.close()
        return True

    def _has_memory(self, lane: RunLane) -> bool:
        """Whether a run of a lane may start: a short one beside a long one needs room."""
        others = [place for other, place in self._places.items() if other is not lane]
        if lane is not RunLane.SHORT or not any(place.locked() for place in others):
            return True
        available = available_memory()
        return available is None or available >= self.settings.short_run_memory_mb * 1_000_000

    def _claim(self, owner: str, lane: RunLane) -> tuple[Run | None, BinaryIO | None]:
        """Claim the first run of a lane that has a device here, with the lock of its GPU."""
        gpu = lock_gpu(self.settings) if RunQueue.GPU in self.queues else None
        try:
            with self.database.session() as session:
                run = runs.claim_next(
                    session, self._available(gpu), owner, self.context.lease_s, lanes=[lane]
                )
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
                self._heartbeat.beat()
            except Exception:
                # The database or the disk may be away for a while. If this thread ended, runs
                # without a message would wait for ever.
                logger.exception("Cannot poll; trying again in %g s", self.context.heartbeat_s)
            if self.context.stopping.wait(self.context.heartbeat_s):
                return

    def _look(self, pool: Executor) -> None:
        with self.database.session() as session:
            announce = partial(announce_end, session, self.settings, status=RunStatus.FAILED)
            queued = [runs.get_run(session, run_id) for run_id in runs.reap(session, announce)]
        queued += schedules.start_due(self.database, now())
        for run in queued:
            if run.queue not in self.queues or lane_of(run.run_type) not in self._free_lanes():
                notify_workers(self.settings, run)
        for lane in self._free_lanes():
            for run_id in self._first_of(lane):
                pool.submit(self.execute, run_id).add_done_callback(_log_failure)

    def _free_lanes(self) -> list[RunLane]:
        return [lane for lane, place in self._places.items() if not place.locked()]

    def _first_of(self, lane: RunLane) -> list[uuid.UUID]:
        """The first queued run of a lane whose device is available; empty if there is none."""
        gpu = lock_gpu(self.settings) if RunQueue.GPU in self.queues else None
        try:
            with self.database.session() as session:
                return runs.next_queued(session, self._available(gpu), lanes=[lane])
        finally:
            if gpu:
                gpu.close()

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
