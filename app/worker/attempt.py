"""One attempt at a run: its program as a process of its own, the lease, and how both end."""

import fcntl
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.child_process import end_with_parent
from app.core.errors import AppError
from app.runs import queue as runs
from app.runs.handlers import DONE, Completion, Preparation, clear_import, tidy
from app.runs.kinds import KINDS
from app.runs.options import input_paths
from app.runs.program import LOG, program_command, read_progress, tail_of, write_options
from app.runs.queue import Lease
from app.runs.tables import Run, RunStatus
from ml.errors import XrayError

if TYPE_CHECKING:
    from app.worker.worker import Worker
logger = logging.getLogger(__name__)
_POLL_S = 0.25
_EXIT_ON_SIGTERM = 128 + signal.SIGTERM


class _Ending(StrEnum):
    """Why a trainer is not watched any more."""

    EXITED = "exited"
    CANCELLED = "cancelled"
    STOPPED = "stopped"  # the worker has to go
    LOST = "lost"  # the lease


class _LeaseLost(Exception):
    """What was done for the run is not to be committed."""


class _FolderTaken(OSError):
    """Somebody of an earlier attempt is still at work in the run's folder."""


class Attempt:
    """One attempt at a run: the trainer, the lease, and what becomes of both.

    Args:
        worker: whose attempt it is.
        run: the run, claimed.
        owner: the name it was claimed under.
        device: the lock of the GPU that the run uses, if it uses one.

    """

    def __init__(self, worker: "Worker", run: Run, owner: str, device: BinaryIO | None = None):
        self._worker, self._run, self._hold = worker, run, (run.id, owner)
        self._device = device
        self._kind = KINDS[run.kind]
        self._folder = worker.runs_folder / str(run.id)
        self._next_beat = time.monotonic()
        self._held_until = time.monotonic() + worker.lease_s

    def see_through(self) -> None:
        """Have the program run to its end, unless it has been, and record how it ended."""
        logger.info("run %s (%s): attempt %d", self._run.id, self._run.kind, self._run.attempts)
        if (self._folder / DONE).exists():
            self._complete()
            return
        try:
            trainer = self._start()
        except (XrayError, AppError) as mistake:
            with self._last_word() as session:
                runs.fail(session, *self._hold, str(mistake))
            return
        except OSError as problem:
            with self._last_word() as session:
                runs.fail(session, *self._hold, f"not started: {problem}", try_again=True)
            return
        except (OperationalError, InterfaceError):
            # The database is away. Once the lease has expired, the next attempt begins.
            raise
        except Exception as problem:
            logger.exception("run %s: it cannot be made ready", self._run.id)
            with self._last_word() as session:
                runs.fail(session, *self._hold, f"it cannot be made ready: {problem!r}")
            return
        try:
            ending = self._watch(trainer)
            if ending in (_Ending.CANCELLED, _Ending.STOPPED):
                self._ask_to_end(trainer)
        finally:
            _kill_group(trainer)
        if trainer.returncode == 0:
            (self._folder / DONE).touch()
            self._complete()
            return
        with self._last_word() as session:
            self._end(session, ending, trainer.returncode)

    def _start(self) -> "subprocess.Popen[bytes]":
        # The application's secrets are none of the trainer's business.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("XRAY_")}
        with self._own_log() as log:
            return subprocess.Popen(
                end_with_parent(self._command(), signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment | {"PYTHONUNBUFFERED": "1"},
                # A process group of its own, which no interrupt at the terminal reaches.
                start_new_session=True,
                pass_fds=[self._device.fileno()] if self._device else [],
            )

    def _command(self) -> list[str]:
        """What the trainer is told, once what it needs has been made ready."""
        before = (self._worker.settings, self._run, self._folder)
        with self._lease_kept(), self._worker.database.session() as session:
            paths = input_paths(session, self._worker.settings, self._run)
            prepare = self._kind.prepare
            prepared = prepare(Preparation(session, *before)) if prepare else {}
        return program_command(
            write_options(self._run, self._folder, paths, prepared), self._kind.program
        )

    def _complete(self) -> None:
        """Register what the program has made, and say so in the same transaction."""
        complete, result = self._kind.complete, {}
        # The last metrics, which nobody asks for once the run is over.
        self._beat()
        try:
            with self._own_log(), self._lease_kept(), self._worker.database.session() as session:
                if complete:
                    done = Completion(session, self._worker.settings, self._run, self._folder)
                    result = complete(done)
                if not runs.finish(session, *self._hold, result):
                    raise _LeaseLost
        except _LeaseLost:
            logger.warning("run %s: the lease was lost, the end is not recorded", self._run.id)
            return
        except (OperationalError, InterfaceError):
            # The database is away. Once the lease has expired, the next attempt comes here at once.
            raise
        except _FolderTaken as taken:
            with self._last_word() as session:
                runs.fail(session, *self._hold, f"not completed: {taken}", try_again=True)
            return
        except Exception as problem:
            logger.exception("run %s: its results cannot be registered", self._run.id)
            reason = f"its results cannot be registered: {problem or type(problem).__name__}"
            with self._last_word() as session:
                runs.fail(session, *self._hold, reason)
            return
        logger.info("run %s: %s", self._run.id, RunStatus.SUCCEEDED)
        tidy(self._worker.settings, self._run, self._folder)

    @contextmanager
    def _lease_kept(self) -> Iterator[None]:
        """Renew the lease while this thread does something that may take long."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(self._worker.beat_s):
                self._beat()

        thread = threading.Thread(target=keep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _own_log(self) -> BinaryIO:
        """The run's log, locked; the trainer inherits the lock and holds it while it lives.

        So in one folder there is one trainer at a time, or one worker that makes it ready or
        completes it, even where a worker lost its lease while it was not able to notice.

        Raises:
            OSError: the folder cannot be written; as `_FolderTaken`, the trainer of an earlier
                attempt lives on, or its worker.

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
                    raise _FolderTaken(
                        "the trainer of an earlier attempt is still alive"
                    ) from locked

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
        else:
            clear_import(self._worker.settings, run, self._folder)

    def _end(self, session: Session, ending: _Ending, status: int) -> None:
        """Record how a program ended that did not succeed."""
        if ending is _Ending.CANCELLED:
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
            last_words = tail_of(self._folder / LOG).strip().rpartition("\n")[2]
            runs.fail(session, *self._hold, last_words or f"exit status {status}")

    def _record_progress(self, session: Session) -> bool:
        progress = read_progress(self._folder, self._run)
        return runs.record(session, *self._hold, progress, tail_of(self._folder / LOG))


def _kill_group(leader: "subprocess.Popen[bytes]") -> None:
    """Leave nothing of a process group, also where its leader has ended by itself."""
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()
