"""`xray schedule`: recurring runs from the command line."""

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from app.runs.cli import STARTED_BY, DataName, Options, Priority, Queue, TypeName, read_assignments
from app.settings import Settings
from ml.errors import XrayError

if TYPE_CHECKING:
    from app.runs.tables import Schedule

schedule_app = typer.Typer(no_args_is_help=True, help="Manage recurring runs.")


@schedule_app.command("add")
def schedule_add(
    name: Annotated[str, typer.Argument(help="Name of the schedule.")],
    run_type: TypeName,
    data: DataName = None,
    options: Options = None,
    at: Annotated[str, typer.Option(help="Time of day in UTC.")] = "02:00",
    days: Annotated[
        str, typer.Option(help="Days of the week, such as mon,thu; default: every day.")
    ] = "",
    queue: Queue = "cpu",
    priority: Priority = 0,
) -> None:
    """Create a schedule and print its id.

    Each run uses the newest version that is based on the registered data set.
    """
    from app.migrations import migrated_database
    from app.runs.schedules import Timing, create_schedule
    from app.runs.tables import RunQueue

    with migrated_database(Settings()).session() as session:
        schedule = create_schedule(
            session,
            name,
            run_type,
            read_assignments(run_type, data, options),
            timing=Timing(at, _weekdays(days)),
            queue=RunQueue(queue),
            priority=priority,
            by=STARTED_BY,
        )
    print(schedule.id)


def _weekdays(days: str) -> str:
    """mon,thu -> 03."""
    from app.runs.schedules import DAYS, EVERY_DAY

    names = [day.strip().lower() for day in days.split(",") if day.strip()]
    if unknown := [name for name in names if name not in DAYS]:
        raise XrayError(f"Unknown day {unknown[0]!r} in --days. Expected {', '.join(DAYS)}.")
    return "".join(str(DAYS.index(name)) for name in names) or EVERY_DAY


@schedule_app.command("list")
def schedule_list() -> None:
    """List the schedules."""
    from app.migrations import migrated_database
    from app.runs.schedules import list_schedules

    table = Table(Column("id", min_width=36), "name", "type", "time (UTC)", "days", "next run")
    with migrated_database(Settings()).session() as session:
        for each in list_schedules(session):
            table.add_row(
                str(each.id), each.name, each.run_type, each.at, _day_names(each), _next(each)
            )
    Console().print(table)


def _day_names(schedule: "Schedule") -> str:
    from app.runs.schedules import DAYS, EVERY_DAY

    if schedule.weekdays == EVERY_DAY:
        return "every day"
    return ",".join(DAYS[int(day)] for day in schedule.weekdays)


def _next(schedule: "Schedule") -> str:
    from app.runs.schedules import next_slot

    if not schedule.enabled:
        return "disabled"
    return f"{next_slot(schedule, datetime.now(UTC)):%Y-%m-%d %H:%M}"


@schedule_app.command("remove")
def schedule_remove(id: uuid.UUID) -> None:
    """Delete a schedule; its runs stay."""
    from app.migrations import migrated_database
    from app.runs.schedules import delete_schedule, find_schedule

    with migrated_database(Settings()).session() as session:
        delete_schedule(session, find_schedule(session, id), by=STARTED_BY)
