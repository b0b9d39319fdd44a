"""The life of a run: create, claim, renew, record, end, cancel, reap.

Every change of state is one conditional UPDATE, and its row count tells whether it took place. So
of two workers one wins, a message delivered twice starts one trainer, and a worker that comes back
after its lease was lost can change nothing; on SQLite and PostgreSQL alike.
"""

import uuid
from collections.abc import Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from sqlalchemy import ColumnElement, case, func, literal, select, update
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.database import affected_rows, now
from app.core.errors import AppError, Conflict, NotFound
from app.runs.handlers import UPLOAD
from app.runs.kinds import KINDS
from app.runs.options import RunRefused as RunRefused
from app.runs.tables import Run, RunQueue, RunStatus

# Enough for the traceback of whatever went wrong; the whole log is a file.
MAX_LOG_TAIL = 8_000
MAX_REASON = 1_000
_FREE: dict[str, Any] = {"lease_owner": None, "lease_until": None}
_STOP_ASKED = Run.cancel_requested_at.is_not(None)
_ATTEMPT_LEFT = Run.attempts < Run.max_attempts
_VANISHED = "The worker stopped responding"
_UNSUCCESSFUL = (RunStatus.FAILED, RunStatus.CANCELLED)


class RunEnded(AppError):
    """The run is over."""

    status = HTTPStatus.CONFLICT
    title = "The run is over"
    default_code = "run-ended"


class Lease(StrEnum):
    """What a worker learns when it renews its lease."""

    HELD = "held"
    CANCELLED = "cancelled"  # still held, and the run is to be stopped
    LOST = "lost"  # somebody else's now, or the run is over


def get_run(session: Session, id: uuid.UUID) -> Run:
    """Fetch a run as it is now.

    Raises:
        NotFound: there is no such run.

    """
    run = session.get(Run, id, populate_existing=True)
    if run is None:
        raise NotFound(f"no run {id}: see xray run list")
    return run


def list_runs(session: Session, limit: int = 50) -> list[Run]:
    """The newest runs."""
    return list(session.scalars(select(Run).order_by(Run.created_at.desc(), Run.id).limit(limit)))


def next_queued(session: Session, queues: Collection[RunQueue], limit: int = 1) -> list[uuid.UUID]:
    """The runs that go first: by priority, then by age."""
    waiting = select(Run.id).where(
        Run.status == RunStatus.QUEUED,
        Run.queue.in_(queues),
        # A kind that only a newer version knows is left to a newer worker.
        Run.kind.in_(KINDS),
    )
    order = waiting.order_by(Run.priority.desc(), Run.created_at, Run.id)
    return list(session.scalars(order.limit(limit)))


def claim(session: Session, id: uuid.UUID, owner: str, lease_s: float) -> Run | None:
    """Take a run for one attempt, if it is free: queued, or its owner's lease has expired.

    Args:
        session: the database.
        id: the run.
        owner: a name that no other attempt has, whichever worker makes it.
        lease_s: seconds until the run is free again, unless renewed.

    Returns:
        The run, or None where it is held, over, gone, or has no attempt left.

    """
    _free_expired(session, Run.id == id)
    taken = _update(
        session,
        Run.id == id,
        Run.status == RunStatus.QUEUED,
        status=RunStatus.RUNNING,
        attempts=Run.attempts + 1,
        lease_owner=owner,
        lease_until=now() + timedelta(seconds=lease_s),
        started_at=func.coalesce(Run.started_at, now()),
    )
    return get_run(session, id) if taken else None


def claim_next(
    session: Session, queues: Collection[RunQueue], owner: str, lease_s: float
) -> Run | None:
    """Take the run that goes first in the queues; None where none waits."""
    while waiting := next_queued(session, queues):
        # Another worker may be quicker; then the next one goes first.
        if run := claim(session, waiting[0], owner, lease_s):
            return run
    return None


def renew(session: Session, id: uuid.UUID, owner: str, lease_s: float) -> Lease:
    """Hold a run for longer, and learn whether it is to be stopped."""
    until = now() + timedelta(seconds=lease_s)
    if not _update(session, *_held(id, owner), lease_until=until):
        return Lease.LOST
    asked = session.scalar(select(Run.cancel_requested_at).where(Run.id == id))
    return Lease.CANCELLED if asked else Lease.HELD


def record(
    session: Session, id: uuid.UUID, owner: str, progress: Mapping[str, Any], log_tail: str
) -> bool:
    """Note how far the owner's run is; False where the lease was lost."""
    # PostgreSQL takes no NUL in a text, and a program may print one.
    text = log_tail.replace("\0", "")[-MAX_LOG_TAIL:]
    return _update(session, *_held(id, owner), progress=dict(progress), log_tail=text)


def finish(
    session: Session, id: uuid.UUID, owner: str, result: Mapping[str, Any] | None = None
) -> bool:
    """The owner's run succeeded, and this came of it; False where the lease was lost."""
    succeeded = {**_ended(RunStatus.SUCCEEDED), "reason": None, "result": dict(result or {})}
    return _update(session, *_held(id, owner), **succeeded)


def fail(
    session: Session, id: uuid.UUID, owner: str, reason: str, *, try_again: bool = False
) -> bool:
    """The owner's attempt failed; False where the lease was lost.

    Args:
        session: the database.
        id: the run.
        owner: who held it.
        reason: what went wrong, for a person.
        try_again: queue the run again if an attempt is left: for a death from outside, not for a
            mistake that the next attempt would make as well.

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
    """The owner has stopped the run as it was asked to; False where the lease was lost."""
    return _update(session, *_held(id, owner), **_ended(RunStatus.CANCELLED))


def give_back(session: Session, id: uuid.UUID, owner: str) -> bool:
    """The owner has to go, by no fault of the run: the attempt does not count.

    Returns:
        False where the lease was lost.

    """
    held = _held(id, owner)
    return _update(session, *held, _STOP_ASKED, **_ended(RunStatus.CANCELLED)) or _update(
        session, *held, **_FREE, status=RunStatus.QUEUED, attempts=Run.attempts - 1
    )


def request_cancel(session: Session, id: uuid.UUID, *, requested_by: str) -> Run:
    """Cancel a waiting run at once; ask the owner of a running one to stop it.

    Raises:
        NotFound: there is no such run.
        RunEnded: it is over.

    """
    waits = Run.status == RunStatus.QUEUED
    asked = _update(
        session,
        Run.id == id,
        Run.status.in_([RunStatus.QUEUED, RunStatus.RUNNING]),
        # One statement: a worker may take the run at this moment.
        status=case((waits, literal(RunStatus.CANCELLED, Run.status.type)), else_=Run.status),
        finished_at=case((waits, literal(now(), Run.finished_at.type)), else_=None),
        cancel_requested_at=func.coalesce(Run.cancel_requested_at, now()),
    )
    run = get_run(session, id)
    if not asked:
        raise RunEnded(f"run {id} has {run.status} already")
    session.add(AuditEvent(actor=requested_by, action="run.cancelled", subject=str(id)))
    return run


def can_go_on(run: Run) -> bool:
    """Whether a run can be resumed: it ended in vain, and no upload went with it."""
    return run.status in _UNSUCCESSFUL and not run.options.get(UPLOAD)


def resume(session: Session, id: uuid.UUID, *, requested_by: str) -> Run:
    """Queue a failed or cancelled run again, with all its attempts; it goes on where it stopped.

    Raises:
        NotFound: there is no such run.
        Conflict: it waits, runs or has succeeded, or what was uploaded for it is gone.

    """
    run = get_run(session, id)
    if run.status in _UNSUCCESSFUL and not can_go_on(run):
        raise Conflict("the uploaded archive was removed when the run ended: upload it again")
    again = _update(
        session,
        Run.id == id,
        Run.status.in_(_UNSUCCESSFUL),
        status=RunStatus.QUEUED,
        attempts=0,
        reason=None,
        finished_at=None,
        cancel_requested_at=None,
    )
    run = get_run(session, id)
    if not again:
        raise Conflict(f"run {id} is {run.status}: only a failed or cancelled one can go on")
    session.add(AuditEvent(actor=requested_by, action="run.resumed", subject=str(id)))
    return run


def reap(session: Session) -> list[uuid.UUID]:
    """Free the runs whose worker let the lease expire.

    Returns:
        The runs that are queued again, to ring for. Those without an attempt left have failed,
        those that were to be stopped are cancelled.

    """
    return _free_expired(session)


def _free_expired(session: Session, *which: ColumnElement[bool]) -> list[uuid.UUID]:
    expired = (Run.status == RunStatus.RUNNING, Run.lease_until < now(), *which)
    _update(session, *expired, _STOP_ASKED, **_ended(RunStatus.CANCELLED))
    again = update(Run).where(*expired, _ATTEMPT_LEFT).returning(Run.id)
    freed = session.scalars(
        again.values(**_FREE, status=RunStatus.QUEUED, reason=_VANISHED),
        execution_options={"synchronize_session": False},
    ).all()
    _update(session, *expired, **_ended(RunStatus.FAILED), reason=_last(_VANISHED))
    return list(freed)


def _last(reason: str) -> str:
    """The reason of the last attempt that a run has."""
    return f"{reason.rstrip('.')}. No attempt is left."


def _held(id: uuid.UUID, owner: str) -> tuple[ColumnElement[bool], ...]:
    return Run.id == id, Run.status == RunStatus.RUNNING, Run.lease_owner == owner


def _ended(status: RunStatus) -> dict[str, Any]:
    return {**_FREE, "status": status, "finished_at": now()}


def _update(session: Session, *where: ColumnElement[bool], **values: Any) -> bool:
    """Change the rows for which all of `where` holds; whether there were any."""
    # Rows are read anew after a change, see `get_run`.
    return affected_rows(session, update(Run).where(*where).values(**values)) > 0
