"""`xray schedule`: recurring runs from the command line."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.core.cli_output import AsJson, print_json, row_values
from app.runs.cli import (
    STARTED_BY,
    DataName,
    Options,
    Priority,
    Queue,
    TypeName,
    read_assignments,
)
from app.settings import Settings
from ml.errors import XrayError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.runs.tables import Schedule

ScheduleId = Annotated[str, typer.Argument(help="Its id, or enough of its first letters.")]
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
def schedule_list(
    as_json: AsJson = False,
) -> None:
    """List the schedules."""
    from app.migrations import migrated_database
    from app.runs.schedules import list_schedules

    with migrated_database(Settings()).session() as session:
        found = list_schedules(session)
    if as_json:
        print_json({**row_values(each), "next_run": _next(each)} for each in found)
        return
    table = Table("id", "name", "type", "time (UTC)", "days", "next run", box=None, pad_edge=False)
    for each in found:
        table.add_row(
            str(each.id)[:8], each.name, each.run_type, each.at, _day_names(each), _next(each)
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


@schedule_app.command("run")
def schedule_run(id: ScheduleId) -> None:
    """Queue a run of a schedule at once and print its id."""
    from app.migrations import migrated_database
    from app.runs.broker import notify_workers
    from app.runs.schedules import run_now

    settings = Settings()
    with migrated_database(settings).session() as session:
        run = run_now(session, _named(session, id), by=STARTED_BY)
    notify_workers(settings, run)
    print(run.id)


@schedule_app.command("remove")
def schedule_remove(id: ScheduleId) -> None:
    """Delete a schedule; its runs stay."""
    from app.migrations import migrated_database
    from app.runs.schedules import delete_schedule

    with migrated_database(Settings()).session() as session:
        delete_schedule(session, _named(session, id), by=STARTED_BY)


def _named(session: "Session", id: str) -> "Schedule":
    """The schedule whose id begins with these letters."""
    from app.runs.schedules import list_schedules

    found = [each for each in list_schedules(session) if str(each.id).startswith(id.lower())]
    if len(found) != 1:
        raise XrayError(
            f"{len(found)} schedules have an id that begins with {id!r}. See xray schedule list."
        )
    return found[0]
