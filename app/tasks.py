"""Celery: the doorbell that says a run waits, and the worker that answers it.

A message carries the id of a run and nothing else. What is to be done, by whom, and how far it is
stand in the run's row (see `app.runs`), so a message lost, late or delivered twice does no harm.
"""

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from queue import Empty
from typing import Any, BinaryIO

from celery import Celery, bootsteps, signals
from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import runs
from app.db import Database
from app.models import Run, RunQueue, RunStatus
from app.runs import KINDS, Lease
from app.settings import Settings

logger = logging.getLogger(__name__)

EXECUTE = "xray.execute"
LEASE_S = 30.0
# How long whoever starts a run may wait for a broker that does not answer.
RING_TIMEOUT_S = 1.5

METRICS = "metrics.jsonl"
LOG = "log.txt"
_POLL_S = 0.25
_MAX_TAIL = 64 * 2**10
_EXIT_ON_SIGTERM = 128 + signal.SIGTERM

# The kernel kills the trainer when the thread that started it ends, however it ends. The call has
# to be made by the trainer's own process; a program of its own makes it, as running Python between
# fork and exec is not safe beside other threads.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the worker ended before its trainer began")
os.execv(sys.argv[2], sys.argv[2:])
"""


class _Channel(filesystem.Channel):
    def _get(self, *args: Any, **options: Any) -> Any:
        """Read the next message; one that another worker took, or is still writing, is none.

        Left alone, such an error ends the worker. The run behind the message is rung for again.
        """
        try:
            return super()._get(*args, **options)
        except (ChannelError, ValueError):
            raise Empty from None


class FolderTransport(filesystem.Transport):
    """The embedded broker: messages are files in a folder."""

    Channel = _Channel


def create_celery(settings: Settings) -> Celery:
    """The Celery application; nothing is connected before the first message."""
    celery = Celery(
        "xray", broker=settings.broker_url or "filesystem://localhost", set_as_current=False
    )
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        # The lease brings back the run of a worker that died, so no message has to wait for an
        # acknowledgement; and a worker whose share of messages is used up does not listen, so it
        # would miss that the broker went away and be deaf from then on.
        task_acks_late=False,
        worker_prefetch_multiplier=0,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    if not settings.broker_url:
        celery.conf.update(
            broker_transport=f"{__name__}:{FolderTransport.__name__}",
            broker_transport_options=_message_folders(settings.home.resolve() / "broker"),
        )
    return celery


def _message_folders(root: Path) -> dict[str, str]:
    messages, control = root / "messages", root / "control"
    for folder in (messages, control):
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
    }


def ring(celery: Celery, id: uuid.UUID, queue: RunQueue) -> None:
    """Tell the workers that a run waits; call it after the commit that queued the run.

    Returns in two seconds whatever the broker does, and never fails: a run that nobody was told of
    is found by the next worker that looks for one.
    """
    # A thread, as no setting bounds how long a name is looked up.
    bell = threading.Thread(target=_publish, args=(celery, id, queue), daemon=True)
    bell.start()
    bell.join(RING_TIMEOUT_S)
    if bell.is_alive():
        logger.warning("no answer from the broker: run %s waits until a worker looks for it", id)


def _publish(celery: Celery, id: uuid.UUID, queue: RunQueue) -> None:
    impatient = {"socket_connect_timeout": 1, "socket_timeout": 1, "max_retries": 0}
    try:
        with celery.connection_for_write(transport_options=impatient) as connection:
            celery.send_task(
                EXECUTE, [str(id)], connection=connection, queue=queue.value, retry=False
            )
    except Exception as problem:
        # Every transport has errors of its own, and none of them concerns who started the run.
        logger.warning("not rung: run %s waits until a worker looks for it: %s", id, problem)


def alive_file(settings: Settings) -> Path:
    """What the workers of this machine touch whenever they have looked for runs."""
    return settings.home.resolve() / "workers" / socket.gethostname()


class Worker:
    """Does the runs of some queues, one after another, until it is told to stop.

    It hears of them from the broker at once, and looks for them itself now and then: those that
    nobody rang for, and those that dead workers held.

    Args:
        settings: where the database, the broker and the runs' folders are.
        queues: which runs to take.
        lease_s: seconds after which others take over from this worker if it dies. It renews its
            lease, and looks for runs, twelve times as often.

    """

    def __init__(self, settings: Settings, queues: Collection[RunQueue], lease_s: float = LEASE_S):
        self.queues = queues
        self.lease_s = lease_s
        self.beat_s = lease_s / 12
        self.runs_folder = settings.home.resolve() / "runs"
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
            ring(self._celery, run.id, run.queue)
        self.database.close()
        return int(celery_worker.exitcode or 0)

    def execute(self, rung_for: uuid.UUID) -> None:
        """Take the run that goes first, be it the one rung for or another, and see it through."""
        if self.stopping.is_set():
            return
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        with self.database.session() as session:
            run = runs.claim_next(session, self.queues, owner, self.lease_s)
        if run is None:
            logger.info("rung for run %s, which is taken or over, and no other waits", rung_for)
            return
        self._busy = True
        try:
            Attempt(self, run, owner).see_through()
        finally:
            self._busy = False

    def patrol(self, pool: Executor) -> None:
        """Look for runs until the worker stops, and do them in the pool."""
        while True:
            try:
                self._look(pool)
                self._alive_file.touch()
            except SQLAlchemyError:
                logger.exception("cannot look for runs; trying again in %g s", self.beat_s)
            if self.stopping.wait(self.beat_s):
                return

    def _look(self, pool: Executor) -> None:
        with self.database.session() as session:
            freed = [runs.get_run(session, run_id) for run_id in runs.reap(session)]
            first = runs.next_queued(session, self.queues)
        if self._busy:
            for run in freed:
                ring(self._celery, run.id, run.queue)
        else:
            for run_id in first:
                pool.submit(self.execute, run_id).add_done_callback(_log_fault)

    def offer(self, run: Run) -> None:
        """Have a run taken up that this worker had to leave."""
        if self.stopping.is_set():
            self._given_back.append(run)
        else:
            ring(self._celery, run.id, run.queue)

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


class _Ending(StrEnum):
    """Why a trainer is not watched any more."""

    EXITED = "exited"
    CANCELLED = "cancelled"
    STOPPED = "stopped"  # the worker has to go
    LOST = "lost"  # the lease


class Attempt:
    """One attempt at a run: the trainer, the lease, and what becomes of both.

    Args:
        worker: whose attempt it is.
        run: the run, claimed.
        owner: the name it was claimed under.

    """

    def __init__(self, worker: Worker, run: Run, owner: str):
        self._worker, self._run, self._hold = worker, run, (run.id, owner)
        self._folder = worker.runs_folder / str(run.id)
        self._next_beat = time.monotonic()
        self._held_until = time.monotonic() + worker.lease_s

    def see_through(self) -> None:
        """Start the trainer, watch it to its end, and record how it ended."""
        logger.info("run %s (%s): attempt %d", self._run.id, self._run.kind, self._run.attempts)
        try:
            trainer = self._start()
        except OSError as problem:
            with self._last_word() as session:
                runs.fail(session, *self._hold, f"not started: {problem}", try_again=True)
            return
        try:
            ending = self._watch(trainer)
            if ending in (_Ending.CANCELLED, _Ending.STOPPED):
                self._ask_to_end(trainer)
        finally:
            _kill_group(trainer)
        with self._last_word() as session:
            self._end(session, ending, trainer.returncode)

    def _start(self) -> "subprocess.Popen[bytes]":
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        # The application's secrets are none of the trainer's business.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("XRAY_")}
        with self._own_log() as log:
            return subprocess.Popen(
                launcher + trainer_command(self._run, self._folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment | {"PYTHONUNBUFFERED": "1"},
                # A process group of its own, which no interrupt at the terminal reaches.
                start_new_session=True,
            )

    def _own_log(self) -> BinaryIO:
        """The run's log, locked; the trainer inherits the lock and holds it while it lives.

        So in one folder there is one trainer at a time, even where a worker lost its lease while
        it was not able to notice.

        Raises:
            OSError: the trainer of an earlier attempt lives on, or the folder cannot be written.

        """
        self._folder.mkdir(parents=True, exist_ok=True)
        log = (self._folder / LOG).open("ab")
        while True:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return log
            except BlockingIOError as locked:
                too_late = time.monotonic() > self._held_until - self._worker.lease_s / 2
                if too_late or self._worker.stopping.wait(_POLL_S):
                    log.close()
                    raise OSError("the trainer of an earlier attempt is still alive") from locked

    def _watch(self, trainer: "subprocess.Popen[bytes]") -> _Ending:
        while trainer.poll() is None:
            if self._worker.stopping.wait(_POLL_S):
                return _Ending.STOPPED
            if time.monotonic() < self._next_beat:
                continue
            lease = self._beat()
            if lease is Lease.LOST:
                return _Ending.LOST
            if lease is Lease.CANCELLED:
                return _Ending.CANCELLED
        return _Ending.EXITED

    def _beat(self) -> Lease:
        """Renew the lease and note the progress."""
        began = time.monotonic()
        self._next_beat = began + self._worker.beat_s
        try:
            with self._worker.database.session() as session:
                lease = runs.renew(session, *self._hold, self._worker.lease_s)
                self._record_progress(session)
        except SQLAlchemyError:
            logger.exception("run %s: cannot renew the lease", self._run.id)
            # Once it has expired, another worker may begin.
            return Lease.HELD if time.monotonic() < self._held_until else Lease.LOST
        self._held_until = began + self._worker.lease_s
        return lease

    def _ask_to_end(self, trainer: "subprocess.Popen[bytes]") -> None:
        trainer.terminate()
        with suppress(subprocess.TimeoutExpired):
            # Within the lease, which nobody renews meanwhile.
            trainer.wait(min(5.0, self._worker.lease_s / 4))

    @contextmanager
    def _last_word(self) -> Iterator[Session]:
        """A session in which to record the end; a run that is to go on is rung for afterwards."""
        with self._worker.database.session() as session:
            held = self._record_progress(session)
            yield session
            run = runs.get_run(session, self._run.id)
        if not held:
            logger.warning("run %s: the lease was lost, the end is not recorded", run.id)
            return
        logger.info("run %s: %s", run.id, run.status)
        if run.status is RunStatus.QUEUED:
            self._worker.offer(run)

    def _end(self, session: Session, ending: _Ending, status: int) -> None:
        if status == 0:
            runs.finish(session, *self._hold)
        elif ending is _Ending.CANCELLED:
            runs.confirm_cancel(session, *self._hold)
        elif ending is not _Ending.EXITED:
            # The worker has to go; or the database was away for so long that it let go.
            runs.give_back(session, *self._hold)
        elif status < 0:
            reason = f"the trainer was killed by signal {-status}"
            runs.fail(session, *self._hold, reason, try_again=True)
        elif status == _EXIT_ON_SIGTERM:
            runs.fail(session, *self._hold, "the trainer was told to end", try_again=True)
        else:
            last_words = _tail(self._folder / LOG).strip().rpartition("\n")[2]
            runs.fail(session, *self._hold, last_words or f"exit status {status}")

    def _record_progress(self, session: Session) -> bool:
        progress = read_progress(self._folder, self._run)
        return runs.record(session, *self._hold, progress, _tail(self._folder / LOG))


def trainer_command(run: Run, folder: Path) -> list[str]:
    """The command that does a run, or continues it in the same folder."""
    told = {
        "out": folder,
        "device": "cuda" if run.queue is RunQueue.GPU else "cpu",
        **run.options,
    }
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in told.items()]
    return [sys.executable, "-m", *KINDS[run.kind].program, *flags]


def read_progress(folder: Path, run: Run) -> dict[str, Any]:
    """The step reached, of how many, how long it will take, and the figures of the last one."""
    rows = _tail(folder / METRICS).rpartition("\n")[0]
    try:
        # JSON in PostgreSQL knows no infinity.
        row = json.loads(rows.rpartition("\n")[2], parse_constant=lambda _: None)
    except ValueError:
        # No row yet, or one that a killed trainer left unfinished.
        return run.progress
    kind = KINDS[run.kind]
    if kind.step not in row:
        return run.progress
    step, of = row.pop(kind.step), run.options[kind.steps]
    seconds = row.pop("seconds", None)
    return {
        "step": step,
        "of": of,
        "eta_s": None if seconds is None else round(seconds * (of - step), 1),
        "metrics": row,
    }


def _tail(path: Path) -> str:
    """The end of a file that is being written; nothing where there is none yet."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_TAIL))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _kill_group(leader: "subprocess.Popen[bytes]") -> None:
    """Leave nothing of a process group, also where its leader has ended by itself."""
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()
