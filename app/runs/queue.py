"""State changes of runs: claim, renew, record, finish, fail, cancel, resume, reap.

Every change is one conditional UPDATE whose row count says whether it took place. So of two workers
one wins, a message delivered twice starts one program, and a worker that returns after it has lost
its lease can change nothing; on SQLite and PostgreSQL alike.
"""

import uuid
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, case, func, literal, select, update
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.database import affected_rows, database_time, now
from app.core.errors import AppError, Conflict, NotFound
from app.runs.handlers.base import RunResult
from app.runs.handlers.import_data import UPLOAD
from app.runs.progress import RunProgress
from app.runs.run_types import RUN_TYPES, types_of
from app.runs.tables import Run, RunLane, RunQueue, RunStatus
from ml.texts import msg

# Enough for a traceback; the whole log is a file.
MAX_LOG_TAIL = 8_000
MAX_REASON = 1_000


class _Free(TypedDict):
    """The columns of a run that no worker holds."""

    lease_owner: None
    lease_until: None


class _Ended(_Free):
    """The columns of a run that has ended."""

    status: RunStatus
    finished_at: datetime


_FREE: _Free = {"lease_owner": None, "lease_until": None}
_STOP_ASKED = Run.cancel_requested_at.is_not(None)
_ATTEMPT_LEFT = Run.attempts < Run.max_attempts
_VANISHED = "The worker stopped responding"
STATUS_NAMES: dict[RunStatus, str] = {
    RunStatus.QUEUED: msg("queued"),
    RunStatus.RUNNING: msg("running"),
    RunStatus.SUCCEEDED: msg("done"),
    RunStatus.FAILED: msg("failed"),
    RunStatus.CANCELLED: msg("cancelled"),
}
_UNSUCCESSFUL = (RunStatus.FAILED, RunStatus.CANCELLED)
ENDED = (RunStatus.SUCCEEDED, *_UNSUCCESSFUL)


OnFailed = Callable[[Run], None]


class RunEnded(AppError):
    """The run has ended."""

    status = HTTPStatus.CONFLICT
    title = msg("The run has ended")
    default_code = "run-ended"


class Lease(StrEnum):
    """State of a lease when its worker renews it."""

    HELD = "held"
    CANCELLED = "cancelled"  # still held, and the run has to be stopped
    LOST = "lost"  # another worker has it, or the run has ended


def get_run(session: Session, id: uuid.UUID) -> Run:
    """Fetch a run as it is now.

    Raises:
        NotFound: there is no such run.

    """
    run = session.get(Run, id, populate_existing=True)
    if run is None:
        raise NotFound(msg("There is no run %(id)s. See the list of runs.", id=str(id)))
    return run


def list_runs(session: Session, limit: int = 50) -> list[Run]:
    """The newest runs."""
    return list(session.scalars(select(Run).order_by(Run.created_at.desc(), Run.id).limit(limit)))


def next_queued(
    session: Session,
    queues: Collection[RunQueue],
    limit: int = 1,
    *,
    lanes: Collection[RunLane] = tuple(RunLane),
) -> list[uuid.UUID]:
    """The first runs of some queues and lanes: by priority, then by age."""
    waiting = select(Run.id).where(
        Run.status == RunStatus.QUEUED,
        Run.queue.in_(queues),
        # A run type of a newer version is left to a newer worker.
        Run.run_type.in_(types_of(lanes)),
    )
    order = waiting.order_by(Run.priority.desc(), Run.created_at, Run.id)
    return list(session.scalars(order.limit(limit)))


def claim(session: Session, id: uuid.UUID, owner: str, lease_s: float) -> Run | None:
    """Claim a run for one attempt, if it is queued or its lease has expired.

    Args:
        session: the database.
        id: the run.
        owner: a name that no other attempt has: the worker's machine, then what follows a colon.
        lease_s: seconds until the claim expires, unless renewed.

    Returns:
        The run, or None if it is claimed, has ended, is deleted, or has no attempt left.

    """
    _free_expired(session, Run.id == id)
    taken = _update(
        session,
        Run.id == id,
        Run.status == RunStatus.QUEUED,
        status=RunStatus.RUNNING,
        attempts=Run.attempts + 1,
        lease_owner=owner,
        lease_until=database_time(session) + timedelta(seconds=lease_s),
        worker=owner.partition(":")[0],
        started_at=func.coalesce(Run.started_at, now()),
    )
    return get_run(session, id) if taken else None


def claim_next(
    session: Session,
    queues: Collection[RunQueue],
    owner: str,
    lease_s: float,
    *,
    lanes: Collection[RunLane] = tuple(RunLane),
) -> Run | None:
    """Claim the first run of the queues and lanes; None if none is queued."""
    while waiting := next_queued(session, queues, lanes=lanes):
        # Another worker may claim it first; then the next run is tried.
        if run := claim(session, waiting[0], owner, lease_s):
            return run
    return None


def renew(session: Session, id: uuid.UUID, owner: str, lease_s: float) -> Lease:
    """Renew a claim; says whether the run has to be stopped."""
    until = database_time(session) + timedelta(seconds=lease_s)
    if not _update(session, *_held(id, owner), lease_until=until):
        return Lease.LOST
    asked = session.scalar(select(Run.cancel_requested_at).where(Run.id == id))
    return Lease.CANCELLED if asked else Lease.HELD


def record(
    session: Session, id: uuid.UUID, owner: str, progress: RunProgress, log_tail: str
) -> bool:
    """Record the progress of the owner's run; False if the lease was lost.

    A checkpoint that goes beyond the last one makes this the first attempt again: the limit is for
    runs that do not advance, not for long ones.
    """
    # PostgreSQL accepts no NUL in a text, and a program may print one.
    text = log_tail.replace("\0", "")[-MAX_LOG_TAIL:]
    stored = {} if progress.step is None else progress.model_dump(mode="json")
    values: dict[str, Any] = {"progress": stored, "log_tail": text}
    if progress.checkpoint_step is not None:
        known = session.scalar(select(Run.progress).where(Run.id == id)) or {}
        before = RunProgress.model_validate(known).checkpoint_step
        if before is None or progress.checkpoint_step > before:
            values["attempts"] = 1
    return _update(session, *_held(id, owner), **values)


def finish_run(
    session: Session, id: uuid.UUID, owner: str, result: RunResult | None = None
) -> bool:
    """Record that the owner's run succeeded; False if the lease was lost."""
    produced = result.model_dump(mode="json") if result else {}
    succeeded = {**_ended(RunStatus.SUCCEEDED), "reason": None, "result": produced}
    return _update(session, *_held(id, owner), **succeeded)


def fail(
    session: Session, id: uuid.UUID, owner: str, reason: str, *, try_again: bool = False
) -> bool:
    """Record that the owner's attempt failed; False if the lease was lost.

    Args:
        session: the database.
        id: the run.
        owner: of the attempt.
        reason: what went wrong, in a sentence.
        try_again: queue the run again if an attempt is left: for causes that may pass, not for
            errors that the next attempt would repeat.

    """
    held, reason = _held(id, owner), reason.replace("\0", "")[:MAX_REASON]
    if not try_again:
        return _update(session, *held, **_ended(RunStatus.FAILED), reason=reason)
    return (
        _update(session, *held, _STOP_ASKED, **_ended(RunStatus.CANCELLED))
        or _update(session, *held, _ATTEMPT_LEFT, **_FREE, status=RunStatus.QUEUED, reason=reason)
        or _update(session, *held, **_ended(RunStatus.FAILED), reason=_last(reason))
    )


def confirm_cancel(session: Session, id: uuid.UUID, owner: str) -> bool:
    """Record that the owner has stopped a cancelled run; False if the lease was lost."""
    return _update(session, *_held(id, owner), **_ended(RunStatus.CANCELLED))


def give_back(session: Session, id: uuid.UUID, owner: str) -> bool:
    """Queue the owner's run again without counting the attempt, as the worker has to stop.

    Returns:
        False if the lease was lost.

    """
    held = _held(id, owner)
    return _update(session, *held, _STOP_ASKED, **_ended(RunStatus.CANCELLED)) or _update(
        session, *held, **_FREE, status=RunStatus.QUEUED, attempts=Run.attempts - 1
    )


def request_cancel(session: Session, id: uuid.UUID, *, requested_by: str) -> Run:
    """Cancel a queued run at once; ask the owner of a running one to stop it.

    Raises:
        NotFound: there is no such run.
        RunEnded: it has ended.

    """
    waits = Run.status == RunStatus.QUEUED
    asked = _update(
        session,
        Run.id == id,
        Run.status.in_([RunStatus.QUEUED, RunStatus.RUNNING]),
        # One statement: a worker may claim the run at this moment.
        status=case((waits, literal(RunStatus.CANCELLED, Run.status.type)), else_=Run.status),
        finished_at=case((waits, literal(now(), Run.finished_at.type)), else_=None),
        cancel_requested_at=func.coalesce(Run.cancel_requested_at, now()),
    )
    run = get_run(session, id)
    if not asked:
        raise RunEnded(
            msg("The run has already ended: it is %(status)s.", status=STATUS_NAMES[run.status])
        )
    session.add(AuditEvent(actor=requested_by, action="run.cancelled", subject=str(id)))
    return run


def can_finish_early(run: Run) -> bool:
    """Whether a run can be asked to stop and keep its best result: it trains, and was not asked."""
    return (
        run.status is RunStatus.RUNNING
        and run.run_type in RUN_TYPES
        and RUN_TYPES[run.run_type].finishes_early
        and not (run.finish_requested_at or run.cancel_requested_at)
        and bool(RunProgress.model_validate(run.progress).step)
    )


def request_finish(session: Session, id: uuid.UUID, *, requested_by: str) -> None:
    """Ask a training to stop, and to keep the best result so far.

    Raises:
        NotFound: there is no such run.
        Conflict: it is not at work, has no result yet, or cannot stop early.
    """
    run = get_run(session, id)
    if not can_finish_early(run):
        raise Conflict(
            msg(
                "The run is %(status)s, or has no result yet. Only trainings that are "
                "running can stop early.",
                status=STATUS_NAMES[run.status],
            )
        )
    running = (Run.id == id, Run.status == RunStatus.RUNNING)
    _update(session, *running, finish_requested_at=now())
    session.add(AuditEvent(actor=requested_by, action="run.finished-early", subject=str(id)))


def set_archived(session: Session, id: uuid.UUID, *, archived: bool, by: str) -> Run:
    """Hide a run that has ended from the list, or show it again.

    Raises:
        NotFound: there is no such run.
        Conflict: it is queued or running.
    """
    run = get_run(session, id)
    if run.status not in ENDED:
        raise Conflict(msg("The run has not ended. Cancel it first."))
    if bool(run.archived_at) != archived:
        run.archived_at = now() if archived else None
        action = "run.archived" if archived else "run.restored"
        session.add(AuditEvent(actor=by, action=action, subject=str(id)))
    return run


def can_resume(run: Run) -> bool:
    """Whether a run can be resumed: it failed or was cancelled, and had no uploaded archive."""
    return run.status in _UNSUCCESSFUL and not run.options.get(UPLOAD)


def resume(session: Session, id: uuid.UUID, *, requested_by: str) -> Run:
    """Queue a failed or cancelled run again, with all attempts; it resumes where it stopped.

    Raises:
        NotFound: there is no such run.
        Conflict: it is queued, running or done, or its uploaded archive was removed.

    """
    run = get_run(session, id)
    if run.status in _UNSUCCESSFUL and not can_resume(run):
        raise Conflict(msg("The uploaded archive was removed when the run ended. Upload it again."))
    again = _update(
        session,
        Run.id == id,
        Run.status.in_(_UNSUCCESSFUL),
        status=RunStatus.QUEUED,
        attempts=0,
        reason=None,
        finished_at=None,
        cancel_requested_at=None,
        finish_requested_at=None,
        archived_at=None,
    )
    run = get_run(session, id)
    if not again:
        raise Conflict(
            msg(
                "The run is %(status)s. Only failed and cancelled runs can be resumed.",
                status=STATUS_NAMES[run.status],
            )
        )
    session.add(AuditEvent(actor=requested_by, action="run.resumed", subject=str(id)))
    return run


def reap(session: Session, on_failed: OnFailed | None = None) -> list[uuid.UUID]:
    """End the claims whose lease has expired.

    Args:
        session: the database.
        on_failed: called with each run that failed by it.

    Returns:
        The runs that are queued again, to notify workers of. Those without an attempt left have
        failed, those that had to be stopped are cancelled.

    """
    return _free_expired(session, on_failed=on_failed)


def _free_expired(
    session: Session, *which: ColumnElement[bool], on_failed: OnFailed | None = None
) -> list[uuid.UUID]:
    expired = (Run.status == RunStatus.RUNNING, Run.lease_until < database_time(session), *which)
    _update(session, *expired, _STOP_ASKED, **_ended(RunStatus.CANCELLED))
    again = update(Run).where(*expired, _ATTEMPT_LEFT).returning(Run.id)
    freed = session.scalars(
        again.values(**_FREE, status=RunStatus.QUEUED, reason=_VANISHED),
        execution_options={"synchronize_session": False},
    ).all()
    failed = session.scalars(
        update(Run)
        .where(*expired)
        .values(**_ended(RunStatus.FAILED), reason=_last(_VANISHED))
        .returning(Run.id),
        execution_options={"synchronize_session": False},
    ).all()
    if on_failed:
        for run_id in failed:
            on_failed(get_run(session, run_id))
    return list(freed)


def _last(reason: str) -> str:
    """The reason of the last attempt that a run has."""
    return f"{reason.rstrip('.')}. No attempt is left."


def _held(id: uuid.UUID, owner: str) -> tuple[ColumnElement[bool], ...]:
    return Run.id == id, Run.status == RunStatus.RUNNING, Run.lease_owner == owner


def _ended(status: RunStatus) -> _Ended:
    return {**_FREE, "status": status, "finished_at": now()}


def _update(session: Session, *where: ColumnElement[bool], **values: Any) -> bool:
    """Update the rows that match; whether there were any."""
    # Rows are read again after a change, see `get_run`.
    return affected_rows(session, update(Run).where(*where).values(**values)) > 0
