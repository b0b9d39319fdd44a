"""One attempt at a run: its program in a process, the lease, and how both end."""

import fcntl
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.child_process import end_with_parent
from app.core.errors import AppError
from app.runs import queue as runs
from app.runs.announcements import announce_end
from app.runs.handlers.base import DONE, Completion, Preparation
from app.runs.handlers.import_data import remove_import_images, remove_intermediate_files
from app.runs.options import input_paths
from app.runs.program import program_command, write_options
from app.runs.progress import LOG, RunProgress, newest_checkpoint, read_progress, tail_of
from app.runs.queue import Lease
from app.runs.run_types import RUN_TYPES
from app.runs.tables import Run, RunStatus
from app.worker.context import WorkerContext
from ml.errors import XrayError
from ml.options.common import FINISH_EARLY

logger = logging.getLogger(__name__)
_POLL_S = 0.25
_EXIT_ON_SIGTERM = 128 + signal.SIGTERM
# What a program is given to save its state; its lease is not renewed meanwhile.
_LONGEST_GRACE_S = 5.0


class _Ending(StrEnum):
    """Why a program is no longer watched."""

    EXITED = "exited"
    CANCELLED = "cancelled"
    STOPPED = "stopped"  # the worker ends
    LOST = "lost"  # the lease


class _LeaseLost(Exception):
    """Another worker has the run: nothing of this attempt is committed."""


class _FolderLocked(OSError):
    """A process of an earlier attempt still works in the run's folder."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """A part of an attempt that may fail.

    Attributes:
        failure: what is said then.
        retried: errors after which the run is queued again, as they may pass.
    """

    failure: str
    retried: type[Exception]


_START = _Stage("The program could not be started", OSError)
_COMPLETION = _Stage("The results could not be registered", _FolderLocked)


class Attempt:
    """One attempt at a run.

    Args:
        context: of the worker.
        run: the run, claimed.
        owner: the name it was claimed under.
        gpu: the lock of the GPU that the run uses, if it uses one.

    """

    def __init__(self, context: WorkerContext, run: Run, owner: str, gpu: BinaryIO | None = None):
        self._context, self._run, self._claim = context, run, (run.id, owner)
        self._gpu = gpu
        self._run_type = RUN_TYPES[run.run_type]
        self._folder = context.settings.home_folder.run(run.id)
        self._next_heartbeat = time.monotonic()
        self._held_until = time.monotonic() + context.lease_s
        self._checkpoint = newest_checkpoint(self._folder)

    def execute(self) -> None:
        """Run the program to its end, unless an earlier attempt did, and record the outcome."""
        logger.info("Run %s (%s): attempt %d", self._run.id, self._run.run_type, self._run.attempts)
        if (self._folder / DONE).exists():
            self._complete()
            return
        program = None
        with self._failure_recorded(_START):
            program = self._start()
        if program is None:
            return
        try:
            ending = self._watch(program)
            if ending in (_Ending.CANCELLED, _Ending.STOPPED):
                self._terminate(program)
        finally:
            _kill_group(program)
        if program.returncode == 0:
            (self._folder / DONE).touch()
            self._complete()
            return
        with self._final_session() as session:
            self._record_ending(session, ending, program.returncode)

    @contextmanager
    def _failure_recorded(self, stage: _Stage) -> Iterator[None]:
        """Record an error as the run's failure, and end the attempt."""
        try:
            yield
        except _LeaseLost:
            logger.warning("Run %s: the lease was lost, nothing is recorded", self._run.id)
        except (OperationalError, InterfaceError):
            # The database is away. The next attempt begins once the lease has expired.
            raise
        except Exception as problem:
            if not isinstance(problem, XrayError | AppError | OSError):
                logger.exception("Run %s: %s", self._run.id, stage.failure)
            reason = f"{stage.failure}: {_text_of(problem)}"
            with self._final_session() as session:
                runs.fail(
                    session, *self._claim, reason, try_again=isinstance(problem, stage.retried)
                )

    def _start(self) -> "subprocess.Popen[bytes]":
        # The program needs none of the application's secrets.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("XRAY_")}
        with self._locked_log() as log:
            return subprocess.Popen(
                end_with_parent(self._prepared_command(), signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment | {"PYTHONUNBUFFERED": "1"},
                # A separate process group, which Ctrl-C in the terminal does not reach.
                start_new_session=True,
                pass_fds=[self._gpu.fileno()] if self._gpu else [],
            )

    def _prepared_command(self) -> list[str]:
        """Prepare the run, write its options file, and return the program's command."""
        settings = self._context.settings
        with self._lease_renewed(), self._context.database.session() as session:
            paths = input_paths(session, settings, self._run)
            about = Preparation(session, settings, self._run, self._folder)
            prepared = self._run_type.prepare(about)
        options = write_options(self._run, self._folder, paths, prepared)
        return program_command(options, self._run_type.program)

    def _complete(self) -> None:
        """Register the results and record the success in the same transaction."""
        # The last metrics; nothing reads them once the run is over.
        self._renew_lease()
        succeeded = False
        with self._failure_recorded(_COMPLETION):
            self._register()
            succeeded = True
        if succeeded:
            logger.info("Run %s: %s", self._run.id, RunStatus.SUCCEEDED)
            remove_intermediate_files(self._context.settings, self._run, self._folder)

    def _register(self) -> None:
        with (
            self._locked_log(),
            self._lease_renewed(),
            self._context.database.session() as session,
        ):
            done = Completion(session, self._context.settings, self._run, self._folder)
            if not runs.finish_run(session, *self._claim, self._run_type.complete(done)):
                raise _LeaseLost
            self._announce(session, RunStatus.SUCCEEDED)

    @contextmanager
    def _lease_renewed(self) -> Iterator[None]:
        """Renew the lease while this thread does something that may take long."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(self._context.heartbeat_s):
                self._renew_lease()

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _locked_log(self) -> BinaryIO:
        """The run's log, locked; the program inherits the lock and holds it while it lives.

        So one process at a time works in the folder: a program, or a worker that prepares or
        completes the run, even where a worker lost its lease without noticing.

        Raises:
            OSError: the folder cannot be written; as `_FolderLocked`, a process of an earlier
                attempt is still alive.

        """
        self._folder.mkdir(parents=True, exist_ok=True)
        log = (self._folder / LOG).open("ab")
        while True:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return log
            except BlockingIOError as locked:
                too_late = time.monotonic() > self._held_until - self._context.lease_s / 2
                if too_late or self._context.stopping.wait(_POLL_S):
                    log.close()
                    raise _FolderLocked(
                        "the program of an earlier attempt is still running"
                    ) from locked

    def _watch(self, program: "subprocess.Popen[bytes]") -> _Ending:
        while program.poll() is None:
            if self._context.stopping.wait(_POLL_S):
                return _Ending.STOPPED
            if time.monotonic() < self._next_heartbeat:
                continue
            lease = self._renew_lease()
            if lease is Lease.LOST:
                return _Ending.LOST
            if lease is Lease.CANCELLED:
                return _Ending.CANCELLED
        return _Ending.EXITED

    def _renew_lease(self) -> Lease:
        """Renew the lease and record the progress."""
        began = time.monotonic()
        self._next_heartbeat = began + self._context.heartbeat_s
        try:
            with self._context.database.session() as session:
                lease = runs.renew(session, *self._claim, self._context.lease_s)
                self._pass_on_finish(session)
                self._record_progress(session)
        except SQLAlchemyError:
            logger.exception("Run %s: cannot renew the lease", self._run.id)
            # Once it has expired, another worker may begin.
            return Lease.HELD if time.monotonic() < self._held_until else Lease.LOST
        self._held_until = began + self._context.lease_s
        return lease

    def _pass_on_finish(self, session: Session) -> None:
        """Tell the program that it should stop and keep its best result, where it was asked to."""
        if self._run_type.finishes_early:
            is_asked = runs.get_run(session, self._run.id).finish_requested_at is not None
            file = self._folder / self._run_type.out / FINISH_EARLY
            if is_asked != file.exists():
                file.touch() if is_asked else file.unlink()

    def _terminate(self, program: "subprocess.Popen[bytes]") -> None:
        program.terminate()
        with suppress(subprocess.TimeoutExpired):
            program.wait(min(_LONGEST_GRACE_S, self._context.lease_s / 4))

    @contextmanager
    def _final_session(self) -> Iterator[Session]:
        """A session to record the outcome in; a run that is queued again is announced."""
        with self._context.database.session() as session:
            held = self._record_progress(session)
            yield session
            run = runs.get_run(session, self._run.id)
            if held and run.status is RunStatus.FAILED:
                self._announce(session, run.status)
        if not held:
            logger.warning("Run %s: the lease was lost, nothing is recorded", run.id)
            return
        logger.info("Run %s: %s", run.id, run.status)
        if run.status is RunStatus.QUEUED:
            self._context.requeue(run)
        else:
            remove_import_images(self._context.settings, run, self._folder)

    def _announce(self, session: Session, status: RunStatus) -> None:
        announce_end(session, self._context.settings, self._run, status)

    def _record_ending(self, session: Session, ending: _Ending, status: int) -> None:
        """Record how a program ended that did not succeed."""
        if ending is _Ending.CANCELLED:
            runs.confirm_cancel(session, *self._claim)
        elif ending is not _Ending.EXITED:
            # The worker ends; or the database was away for so long that the lease expired.
            runs.give_back(session, *self._claim)
        elif status < 0:
            reason = f"The program was killed by signal {-status}"
            runs.fail(session, *self._claim, reason, try_again=True)
        elif status == _EXIT_ON_SIGTERM:
            runs.fail(session, *self._claim, "The program was terminated", try_again=True)
        else:
            last_line = tail_of(self._folder / LOG).strip().rpartition("\n")[2]
            runs.fail(session, *self._claim, last_line or f"Exit status {status}")

    def _record_progress(self, session: Session) -> bool:
        progress = self._with_checkpoint(read_progress(self._folder, self._run))
        # The times of its steps are kept from one look to the next; the row has the same.
        self._run.progress = progress.model_dump(mode="json")
        return runs.record(session, *self._claim, progress, tail_of(self._folder / LOG))

    def _with_checkpoint(self, progress: RunProgress) -> RunProgress:
        """The progress, with its step where the program has saved its state since the last look."""
        saved = newest_checkpoint(self._folder)
        # An attempt that only repeats the steps of earlier ones does not advance.
        if saved == self._checkpoint or (progress.step or 0) <= (progress.checkpoint_step or 0):
            return progress
        self._checkpoint = saved
        return progress.model_copy(update={"checkpoint_step": progress.step})


def _text_of(problem: Exception) -> str:
    """An error in a sentence; of one that nobody foresaw, its type as well."""
    if isinstance(problem, XrayError | AppError | OSError) and str(problem):
        return str(problem)
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__


def _kill_group(leader: "subprocess.Popen[bytes]") -> None:
    """Kill what is left of a process group, also after its leader has ended."""
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()
