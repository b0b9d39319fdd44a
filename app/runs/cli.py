"""`xray run`: start and manage runs, which `xray worker` executes."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Column, Table

from app.settings import Settings
from ml.errors import XrayError

if TYPE_CHECKING:
    from app.runs.handlers.base import RunType
run_app = typer.Typer(
    no_args_is_help=True, help="Start and manage runs, which xray worker executes."
)
STARTED_BY = "command-line"
TypeName = Annotated[
    str,
    typer.Argument(metavar="TYPE", help="Run type, such as train-classifier; see xray run types."),
]
DataName = Annotated[
    str | None,
    typer.Option("--data", envvar="XRAY_DATA", help="Folder or SHA-256 of a data set."),
]
Options = Annotated[
    list[str] | None, typer.Option("--set", help="An option as name=value; repeatable.")
]
Queue = Annotated[Literal["cpu", "gpu"], typer.Option(help="Device that the run needs.")]
Priority = Annotated[int, typer.Option(help="Runs with a higher priority start first.")]


@run_app.command("start")
def run_start(
    run_type: TypeName,
    data: DataName = None,
    options: Options = None,
    queue: Queue = "cpu",
    priority: Priority = 0,
) -> None:
    """Queue a run and print its id."""
    from app.migrations import migrated_database
    from app.runs.broker import notify_workers
    from app.runs.service import create_run
    from app.runs.tables import RunQueue

    settings = Settings()
    with migrated_database(settings).session() as session:
        run = create_run(
            session,
            run_type,
            read_assignments(run_type, data, options),
            requested_by=STARTED_BY,
            queue=RunQueue(queue),
            priority=priority,
        )
    notify_workers(settings, run)
    print(run.id)


def read_assignments(
    run_type: str, data: str | None, options: list[str] | None
) -> dict[str, object]:
    """The options of a run; the data set becomes the input that takes one."""
    from app.runs.run_types import RUN_TYPES

    given: dict[str, object] = {}
    inputs = RUN_TYPES[run_type].inputs if run_type in RUN_TYPES else ()
    wanted = {each.name for each in inputs}
    for name in ("data", "against"):
        if data and name in wanted:
            # A path may contain the comma that separates names.
            given[name] = Path(data) if Path(data).exists() else data
    return given | dict(_named_value(option) for option in options or [])


def _named_value(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not equals:
        raise XrayError(f"Cannot read --set {option}. Expected name=value.")
    return name, value


@run_app.command("types")
def run_types(
    run_type: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="Show the options of this run type.")
    ] = None,
) -> None:
    """List the run types, or the inputs and options of one."""
    from app.runs.run_types import RUN_TYPES

    if run_type is None:
        table = Table("type", "description")
        for name, each in RUN_TYPES.items():
            table.add_row(name, each.summary)
    elif run_type in RUN_TYPES:
        table = _options_of(RUN_TYPES[run_type])
    else:
        raise XrayError(
            f"There is no run type {run_type!r}. Expected one of {', '.join(RUN_TYPES)}."
        )
    Console().print(table)


def _options_of(run_type: "RunType") -> Table:
    from ml.option_fields import option_fields

    table = Table("name", "default", "description", title=run_type.title)
    for each in run_type.inputs:
        table.add_row(each.name, "required" if each.required else "", each.help)
    for option in option_fields(run_type.Options):
        words = ", ".join(filter(None, option.choices))
        text = option.help + (f" One of: {words}." if words else "")
        table.add_row(option.name, str(option.default), text)
    return table


@run_app.command("list")
def run_list() -> None:
    """List the latest runs."""
    from app.migrations import migrated_database
    from app.runs.progress import RunProgress
    from app.runs.queue import list_runs

    id_column = Column("id", min_width=36)
    table = Table(id_column, "type", "queue", "status", "step", "started", "reason")
    with migrated_database(Settings()).session() as session:
        for run in list_runs(session):
            progress = RunProgress.model_validate(run.progress)
            step = "" if progress.step is None else f"{progress.step:g}"
            step += "" if progress.of is None else f" of {progress.of:g}"
            started = f"{run.started_at:%Y-%m-%d %H:%M}" if run.started_at else ""
            reason = run.reason or ""
            table.add_row(str(run.id), run.run_type, run.queue, run.status, step, started, reason)
    Console().print(table)


@run_app.command("show")
def run_show(id: uuid.UUID) -> None:
    """Show a run and the end of its log."""
    from app.migrations import migrated_database
    from app.runs.queue import get_run

    with migrated_database(Settings()).session() as session:
        run = get_run(session, id)
    table = Table(show_header=False)
    for column in run.__table__.columns:
        if column.name != "log_tail":
            table.add_row(column.name, str(getattr(run, column.name)))
    Console().print(table)
    print(run.log_tail)


@run_app.command("cancel")
def run_cancel(id: uuid.UUID) -> None:
    """Cancel a run: at once if it is queued, within seconds if it is running."""
    from app.migrations import migrated_database
    from app.runs.queue import request_cancel

    with migrated_database(Settings()).session() as session:
        print(request_cancel(session, id, requested_by=STARTED_BY).status)


@run_app.command("resume")
def run_resume(id: uuid.UUID) -> None:
    """Resume a failed or cancelled run where it stopped."""
    from app.migrations import migrated_database
    from app.runs.broker import notify_workers
    from app.runs.queue import resume

    settings = Settings()
    with migrated_database(settings).session() as session:
        run = resume(session, id, requested_by=STARTED_BY)
    notify_workers(settings, run)
    print(run.status)
