"""`xray run` and `xray schedule`: long jobs from the command line; `xray worker` does them."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Column, Table

from app.settings import Settings
from ml.errors import XrayError

if TYPE_CHECKING:
    from app.runs.kinds import Kind
run_app = typer.Typer(no_args_is_help=True, help="Long jobs, done by xray worker.")
STARTED_BY = "command-line"
KindName = Annotated[
    str, typer.Argument(help="What to do, as train-classifier; see xray run kinds.")
]
DataName = Annotated[
    str | None,
    typer.Option("--data", envvar="XRAY_DATA", help="A data set's folder, or its SHA-256 here."),
]
Options = Annotated[list[str] | None, typer.Option("--set", help="name=value, as often as needed.")]
Queue = Annotated[Literal["cpu", "gpu"], typer.Option(help="The device it needs.")]
Priority = Annotated[int, typer.Option(help="Runs with a higher one go first.")]


@run_app.command("start")
def run_start(
    kind: KindName,
    data: DataName = None,
    options: Options = None,
    queue: Queue = "cpu",
    priority: Priority = 0,
) -> None:
    """Start a long job and print its id; a worker does it."""
    from app.migrations import migrated_database
    from app.runs.broker import notify_workers
    from app.runs.service import create_run
    from app.runs.tables import RunQueue

    settings = Settings()
    with migrated_database(settings).session() as session:
        run = create_run(
            session,
            kind,
            read_assignments(kind, data, options),
            requested_by=STARTED_BY,
            queue=RunQueue(queue),
            priority=priority,
        )
    notify_workers(settings, run)
    print(run.id)


def read_assignments(kind: str, data: str | None, options: list[str] | None) -> dict[str, Any]:
    """What a job is told; the data set goes where its kind wants one."""
    from app.runs.kinds import KINDS

    given: dict[str, Any] = {}
    wanted = {each.name for each in KINDS[kind].inputs} if kind in KINDS else set()
    for name in ("data", "against"):
        if data and name in wanted:
            # A path may hold the comma that parts names.
            given[name] = Path(data) if Path(data).exists() else data
    return given | dict(_named_value(option) for option in options or [])


def _named_value(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not equals:
        raise XrayError(f"--set {option}: expected name=value")
    return name, value


@run_app.command("kinds")
def run_kinds(
    kind: Annotated[str | None, typer.Argument(help="One of them, for its options.")] = None,
) -> None:
    """List what can be done; of one kind, what it works on and its options."""
    from app.runs.kinds import KINDS

    if kind is None:
        table = Table("kind", "what it does")
        for name, each in KINDS.items():
            table.add_row(name, each.summary)
    elif kind in KINDS:
        table = _options_of(KINDS[kind])
    else:
        raise XrayError(f"no kind of run is called {kind!r}: expected {', '.join(KINDS)}")
    Console().print(table)


def _options_of(kind: "Kind") -> Table:
    from ml.option_fields import option_fields

    table = Table("name", "default", "what it is", title=kind.title)
    for each in kind.inputs:
        table.add_row(each.name, "needed" if each.required else "", each.help)
    for option in option_fields(kind.options):
        words = ", ".join(filter(None, option.choices))
        text = option.help + (f" One of: {words}." if words else "")
        table.add_row(option.name, str(option.default), text)
    return table


@run_app.command("list")
def run_list() -> None:
    """List the newest runs."""
    from app.migrations import migrated_database
    from app.runs.queue import list_runs

    id_column = Column("id", min_width=36)
    table = Table(id_column, "kind", "queue", "status", "step", "started", "reason")
    with migrated_database(Settings()).session() as session:
        for run in list_runs(session):
            step = f"{run.progress['step']} of {run.progress['of']}" if run.progress else ""
            started = f"{run.started_at:%Y-%m-%d %H:%M}" if run.started_at else ""
            reason = run.reason or ""
            table.add_row(str(run.id), run.kind, run.queue, run.status, step, started, reason)
    Console().print(table)


@run_app.command("show")
def run_show(id: uuid.UUID) -> None:
    """Show all about a run, and the end of its log."""
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
    """Cancel a run: at once where it waits, within seconds where a worker is at it."""
    from app.migrations import migrated_database
    from app.runs.queue import request_cancel

    with migrated_database(Settings()).session() as session:
        print(request_cancel(session, id, requested_by=STARTED_BY).status)


@run_app.command("resume")
def run_resume(id: uuid.UUID) -> None:
    """Let a failed or cancelled run go on where it stopped."""
    from app.migrations import migrated_database
    from app.runs.broker import notify_workers
    from app.runs.queue import resume

    settings = Settings()
    with migrated_database(settings).session() as session:
        run = resume(session, id, requested_by=STARTED_BY)
    notify_workers(settings, run)
    print(run.status)
