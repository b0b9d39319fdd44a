"""Create runs from validated options."""

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.runs.kinds import KINDS
from app.runs.options import RunRefused as RunRefused
from app.runs.options import checked_options, data_of
from app.runs.tables import Run, RunQueue, Schedule


def create_run(
    session: Session,
    kind: str,
    options: Mapping[str, Any],
    *,
    requested_by: str,
    queue: RunQueue = RunQueue.CPU,
    priority: int = 0,
    max_attempts: int = 3,
    schedule: Schedule | None = None,
    slot: str | None = None,
) -> Run:
    """Record a run to be done. Commit before ringing for it, or no worker will find it.

    Args:
        session: the database.
        kind: a name in `KINDS`.
        options: what the kind works on and the kind's own options; those left out have their
            defaults. The options of an earlier run can be given again.
        requested_by: who wants it.
        queue: the device it needs.
        priority: runs with a higher one go first.
        max_attempts: how often it is taken up again when its worker or trainer is killed.
        schedule: what it is started by, if it is.
        slot: of the schedule.

    Raises:
        RunRefused: no such kind, or options that make no sense, each with what is wrong with it.
        IntegrityError: the schedule's slot has its run.

    """
    checked = checked_options(session, kind, options)
    run = Run(
        id=uuid.uuid4(),
        kind=kind,
        options=checked,
        data_sha256=data_of(KINDS[kind], checked),
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
        requested_by=requested_by,
        schedule_id=schedule.id if schedule else None,
        slot=slot,
    )
    session.add(run)
    session.add(
        AuditEvent(
            actor=requested_by, action="run.created", subject=str(run.id), detail={"kind": kind}
        )
    )
    session.flush()
    return run
