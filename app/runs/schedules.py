"""Schedules: recurring runs at a time of day. Each slot of a schedule has one run.

Any worker starts what is due. The database refuses a second run of the same schedule and slot, so
several workers may poll at once. After downtime only the latest missed slot is started.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypedDict

from sqlalchemy import exists, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.database import Database, now
from app.core.errors import InvalidForm, NotFound
from app.datasets.tables import DataKind, DataVersion
from app.runs import queue as runs
from app.runs.options import RunRefused, checked_options
from app.runs.run_types import RUN_TYPES
from app.runs.service import ScheduledSlot, create_run
from app.runs.tables import Run, RunQueue, RunStatus, Schedule
from ml.json_model import JsonObject
from ml.texts import msg

EVERY_DAY = "0123456"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LONGEST_NAME = 80
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


class Timing(NamedTuple):
    """When a schedule starts runs.

    Attributes:
        at: the time of day in UTC, such as 02:00.
        weekdays: digits of the days, 0 is Monday.
    """

    at: str = "02:00"
    weekdays: str = EVERY_DAY


def create_schedule(
    session: Session,
    name: str,
    run_type: str,
    options: Mapping[str, object],
    *,
    timing: Timing = Timing(),  # noqa: B008  # a tuple of texts
    queue: RunQueue = RunQueue.CPU,
    priority: int = 0,
    by: str,
) -> Schedule:
    """Create a schedule that starts runs from its next slot on.

    Args:
        session: the database.
        name: unique among schedules.
        run_type: of the runs, a name in `RUN_TYPES`.
        options: of the runs, as for `create_run`.
        timing: when runs start.
        queue: the device that the runs need.
        priority: of the runs.
        by: who creates it.

    Raises:
        InvalidForm: with a fault for each invalid field and option.
    """
    checked = _checked(session, name, run_type, options, timing)
    schedule = Schedule(
        id=uuid.uuid4(),
        run_type=run_type,
        queue=queue,
        priority=priority,
        created_by=by,
        **checked,
    )
    session.add(schedule)
    _note(session, schedule, "created", by)
    session.flush()
    return schedule


def change_schedule(
    session: Session,
    schedule: Schedule,
    name: str,
    options: Mapping[str, object],
    *,
    timing: Timing,
    queue: RunQueue,
    priority: int,
    by: str,
) -> None:
    """Change everything but the run type of a schedule; its next slot follows the new timing.

    Raises:
        InvalidForm: with a fault for each invalid field and option.
    """
    checked = _checked(session, name, schedule.run_type, options, timing, schedule.id)
    if (schedule.at, schedule.weekdays) != (checked["at"], checked["weekdays"]):
        # No slot of the new timing was missed.
        schedule.enabled_at = now()
    for field, value in checked.items():
        setattr(schedule, field, value)
    schedule.queue, schedule.priority = queue, priority
    _note(session, schedule, "changed", by)
    session.flush()


def run_now(session: Session, schedule: Schedule, *, by: str) -> Run:
    """Queue a run of a schedule at once, whether it is enabled or not. Commit before notifying.

    Raises:
        RunRefused: its options are no longer valid.
    """
    _note(session, schedule, "run", by)
    return create_run(
        session,
        schedule.run_type,
        _with_newest_data(session, schedule),
        requested_by=by,
        queue=schedule.queue,
        priority=schedule.priority,
        slot=ScheduledSlot(schedule, f"now {now():%Y-%m-%dT%H:%M:%S.%f}"),
    )


class _Checked(TypedDict):
    """Checked columns of a schedule."""

    name: str
    at: str
    weekdays: str
    options: JsonObject


def _checked(
    session: Session,
    name: str,
    run_type: str,
    options: Mapping[str, object],
    timing: Timing,
    changed: uuid.UUID | None = None,
) -> _Checked:
    """The columns of a schedule that people enter; `changed` is the one that is changed.

    Raises:
        InvalidForm: with a fault for each invalid field and option.
    """
    faults: dict[str, str] = {}
    checked: JsonObject = {}
    name, days = " ".join(name.split()), "".join(sorted(set(timing.weekdays)))
    same_name = select(exists().where(Schedule.name == name, Schedule.id != changed))
    if not 0 < len(name) <= _LONGEST_NAME:
        faults["name"] = msg(
            "Enter a name of 1 to %(longest_name)s characters.", longest_name=_LONGEST_NAME
        )
    elif session.scalar(same_name):
        faults["name"] = msg(
            "There is already a schedule %(name)s. Enter another name.", name=f"{name!r}"
        )
    if not _TIME.fullmatch(timing.at):
        faults["at"] = msg(
            "Enter a time of day in UTC, such as 02:00, not %(at)s.", at=f"{timing.at!r}"
        )
    if not days or set(days) - set(EVERY_DAY):
        faults["weekdays"] = msg("Choose at least one day of the week.")
    try:
        checked = checked_options(session, run_type, options)
    except RunRefused as refused:
        faults = refused.faults | faults
    if faults:
        raise InvalidForm(faults)
    return {"name": name, "at": timing.at, "weekdays": days, "options": checked}


def list_schedules(session: Session) -> list[Schedule]:
    """All schedules by name."""
    return list(session.scalars(select(Schedule).order_by(Schedule.name)))


def find_schedule(session: Session, id: uuid.UUID) -> Schedule:
    """Fetch a schedule.

    Raises:
        NotFound: there is no such schedule.
    """
    schedule = session.get(Schedule, id)
    if schedule is None:
        raise NotFound(msg("There is no schedule %(id)s. See the list of schedules.", id=str(id)))
    return schedule


def enable_schedule(session: Session, schedule: Schedule, *, by: str) -> None:
    """Enable a schedule, from its next slot on."""
    if not schedule.enabled:
        schedule.enabled, schedule.enabled_at = True, now()
        _note(session, schedule, "enabled", by)


def disable_schedule(session: Session, schedule: Schedule, *, by: str) -> None:
    """Disable a schedule; runs that it has started continue."""
    if schedule.enabled:
        schedule.enabled = False
        _note(session, schedule, "disabled", by)


def delete_schedule(session: Session, schedule: Schedule, *, by: str) -> None:
    """Delete a schedule; its runs stay."""
    session.execute(update(Run).where(Run.schedule_id == schedule.id).values(schedule_id=None))
    session.delete(schedule)
    _note(session, schedule, "deleted", by)
    session.flush()


def _note(session: Session, schedule: Schedule, what: str, by: str) -> None:
    detail = {"name": schedule.name, "run_type": schedule.run_type}
    event = AuditEvent(actor=by, action=f"schedule.{what}", subject=str(schedule.id), detail=detail)
    session.add(event)


def next_slot(schedule: Schedule, after: datetime) -> datetime:
    """The next slot of a schedule."""
    days = (after + timedelta(days=ahead) for ahead in range(8))
    return next(slot for day in days if (slot := _slot_on(schedule, day)) and slot > after)


def due(session: Session, at: datetime) -> list[tuple[Schedule, str]]:
    """The schedules whose latest slot has no run yet, with that slot.

    Args:
        session: the database.
        at: the present time.
    """
    # A run type of a newer version is left to a newer worker.
    known = select(Schedule).where(Schedule.enabled, Schedule.run_type.in_(RUN_TYPES))
    found = []
    for schedule in session.scalars(known.order_by(Schedule.name)):
        slot = _newest_slot(schedule, at)
        if slot < schedule.enabled_at:
            continue
        name = f"{slot:%Y-%m-%dT%H:%M}"
        has_run = exists().where(Run.schedule_id == schedule.id, Run.slot == name)
        if not session.scalar(select(has_run)):
            found.append((schedule, name))
    return found


def _newest_slot(schedule: Schedule, at: datetime) -> datetime:
    days = (at - timedelta(days=ago) for ago in range(8))
    return next(slot for day in days if (slot := _slot_on(schedule, day)) and slot <= at)


def _slot_on(schedule: Schedule, day: datetime) -> datetime | None:
    """The slot on a day; None if the schedule has none then."""
    day = day.astimezone(UTC)
    if str(day.weekday()) not in schedule.weekdays:
        return None
    hour, minute = map(int, schedule.at.split(":"))
    return day.replace(hour=hour, minute=minute, second=0, microsecond=0)


def start_due(database: Database, at: datetime) -> list[Run]:
    """Start the run of every due slot that no other worker starts at this moment.

    Args:
        database: the schedules and the runs.
        at: the present time.

    Returns:
        The queued runs. A run whose options are no longer valid, for example because its model was
        archived, is recorded as failed.
    """
    with database.session() as session:
        found = due(session, at)
    started = []
    for schedule, slot in found:
        try:
            with database.session() as session:
                run = _start(session, schedule, slot)
        except IntegrityError:
            # Another worker was first, or the schedule has just been deleted.
            continue
        if run.status is RunStatus.QUEUED:
            started.append(run)
    return started


def _start(session: Session, schedule: Schedule, slot: str) -> Run:
    by = f"schedule:{schedule.name}"
    options = _with_newest_data(session, schedule)
    try:
        return create_run(
            session,
            schedule.run_type,
            options,
            requested_by=by,
            queue=schedule.queue,
            priority=schedule.priority,
            slot=ScheduledSlot(schedule, slot),
        )
    except RunRefused as refused:
        run = Run(
            id=uuid.uuid4(),
            run_type=schedule.run_type,
            options=options,
            queue=schedule.queue,
            status=RunStatus.FAILED,
            requested_by=by,
            finished_at=now(),
            reason=f"Not started: {refused.detail}"[: runs.MAX_REASON],
            schedule_id=schedule.id,
            slot=slot,
        )
        session.add(run)
        session.flush()
        return run


def _with_newest_data(session: Session, schedule: Schedule) -> JsonObject:
    """The options, with the newest version based on each data set that they name."""
    inputs = RUN_TYPES[schedule.run_type].inputs
    follows = {each.name for each in inputs if each.newest}
    return {
        name: _newest_version(session, value)
        if name in follows and isinstance(value, str)
        else value
        for name, value in schedule.options.items()
    }


def _newest_version(session: Session, sha256: str) -> str:
    children = (
        select(DataVersion.sha256)
        .where(DataVersion.kind == DataKind.IMAGES)
        .order_by(DataVersion.created_at.desc(), DataVersion.sha256)
        .limit(1)
    )
    while child := session.scalar(children.where(DataVersion.parent_sha256 == sha256)):
        sha256 = child
    return sha256
