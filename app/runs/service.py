"""Create runs from validated options."""

import uuid
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.runs.options import checked_options, data_of
from app.runs.run_types import RUN_TYPES
from app.runs.tables import Run, RunQueue, Schedule


class ScheduledSlot(NamedTuple):
    """The slot of a schedule that a run is for, such as 2026-11-24T02:00."""

    schedule: Schedule
    name: str


def create_run(
    session: Session,
    run_type: str,
    options: Mapping[str, object],
    *,
    requested_by: str,
    queue: RunQueue = RunQueue.CPU,
    priority: int = 0,
    max_attempts: int = 3,
    slot: ScheduledSlot | None = None,
) -> Run:
    """Queue a run. Commit before notifying the workers, or none will find it.

    Args:
        session: the database.
        run_type: a name in `RUN_TYPES`.
        options: inputs and options; those left out have their defaults. The options of an earlier
            run are accepted.
        requested_by: who starts it.
        queue: the device it needs.
        priority: runs with a higher one start first.
        max_attempts: how many attempts it has when workers or programs are killed.
        slot: of the schedule that starts it.

    Raises:
        RunRefused: the type is unknown or options are invalid, with a fault for each.
        IntegrityError: the schedule's slot has a run already.

    """
    checked = checked_options(session, run_type, options)
    run = Run(
        id=uuid.uuid4(),
        run_type=run_type,
        options=checked,
        data_sha256=data_of(RUN_TYPES[run_type], checked),
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
        requested_by=requested_by,
        schedule_id=slot.schedule.id if slot else None,
        slot=slot.name if slot else None,
    )
    session.add(run)
    session.add(
        AuditEvent(
            actor=requested_by,
            action="run.created",
            subject=str(run.id),
            detail={"run_type": run_type},
        )
    )
    session.flush()
    return run
