"""`xray run`: start and manage runs, which `xray worker` executes."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from app.core.cli_output import AsJson, print_json, row_values
from app.settings import Settings
from ml.errors import XrayError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.runs.handlers.base import RunType
    from app.runs.tables import Run, RunQueue
run_app = typer.Typer(
    no_args_is_help=True, help="Start and manage runs, which xray worker executes."
)
STARTED_BY = "command-line"
_LONG = ("log_tail",)
TypeName = Annotated[
    str,
    typer.Argument(metavar="TYPE", help="Run type, such as train-classifier; see xray run types."),
]
DataName = Annotated[
    str | None,
    typer.Option("--data", envvar="XRAY_DATA", help="Folder or SHA-256 of a data set."),
]
RunId = Annotated[str, typer.Argument(help="Its id, or enough of its first letters.")]
Options = Annotated[
    list[str] | None, typer.Option("--set", help="An option as name=value; repeatable.")
]
Queue = Annotated[Literal["cpu", "gpu"], typer.Option(help="Device that the run needs.")]
PresetName = Annotated[str, typer.Option("--preset", help="Preset of the run type's options.")]
LengthName = Annotated[
    Literal["trial", "standard", "long"],
    typer.Option("--length", help="How long the run may take, on its device."),
]
Priority = Annotated[int, typer.Option(help="Runs with a higher priority start first.")]


@run_app.command("start")
def run_start(
    run_type: TypeName,
    data: DataName = None,
    options: Options = None,
    queue: Queue = "cpu",
    priority: Priority = 0,
    preset: PresetName = "",
    length: LengthName | None = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only print how long the run is likely to take.")
    ] = False,
) -> None:
    """Queue a run and print its id.

    Options that are set take precedence over the length, and the length over the preset.
    """
    from app.migrations import migrated_database
    from app.runs.broker import notify_workers
    from app.runs.service import create_run
    from app.runs.tables import RunQueue

    settings = Settings()
    given = _start_values(run_type, preset, length, queue)
    given |= read_assignments(run_type, data, options)
    with migrated_database(settings).session() as session:
        if estimate:
            _print_estimate(session, settings, run_type, given, RunQueue(queue))
            return
        run = create_run(
            session,
            run_type,
            given,
            requested_by=STARTED_BY,
            queue=RunQueue(queue),
            priority=priority,
        )
    notify_workers(settings, run)
    print(run.id)


def _start_values(run_type: str, preset: str, length: str | None, queue: str) -> dict[str, object]:
    """The options of a preset and a length."""
    from app.runs.handlers.base import Length
    from app.runs.run_lengths import ChosenLength, length_values
    from app.runs.run_types import RUN_TYPES
    from app.runs.tables import RunQueue
    from ml.option_fields import option_values

    if run_type not in RUN_TYPES:
        return {}
    of, values = RUN_TYPES[run_type], dict[str, object]()
    if preset:
        if preset not in of.presets:
            expected = f"Expected one of {', '.join(of.presets)}." if of.presets else "It has none."
            raise XrayError(f"{run_type} has no preset {preset!r}. {expected}")
        values |= option_values(of.presets[preset])
    if length:
        chosen = length_values(of, ChosenLength(RunQueue(queue), Length(length)))
        if not chosen:
            raise XrayError(f"{run_type} has no lengths. Leave out --length.")
        values |= chosen
    return values


def _print_estimate(
    session: "Session",
    settings: Settings,
    run_type: str,
    given: dict[str, object],
    queue: "RunQueue",
) -> None:
    from app.core.amounts import about
    from app.runs.estimates import Estimator, Ground
    from app.runs.options import checked_options
    from app.runs.run_types import RUN_TYPES

    options = checked_options(session, run_type, given)
    found = Estimator(session, settings, RUN_TYPES[run_type]).estimate(options, queue)
    if found is None:
        raise XrayError(
            f"No estimate: no run of this kind has been measured on a {queue.upper()} yet, or its "
            "amount of work is not known before it starts."
        )
    grounds = {
        Ground.WORKER: f"An estimate from earlier runs of this kind on {found.machine}: "
        f"{found.runs}.",
        Ground.OTHER: f"An estimate from earlier runs of this kind on {found.machine}: "
        f"{found.runs}. No worker there is running.",
        Ground.SHIPPED: f"A rough estimate from small runs on {found.machine}.",
    }
    print(f"About {about(found.seconds)}: {found.text}. {grounds[found.ground]}")


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
    as_json: AsJson = False,
) -> None:
    """List the run types, or the inputs and options of one."""
    from app.runs.run_types import RUN_TYPES

    if as_json and run_type in (None, *RUN_TYPES):
        wanted = [each for name, each in RUN_TYPES.items() if run_type in (None, name)]
        print_json(_type_values(each) for each in wanted)
        return
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


def _type_values(run_type: "RunType") -> dict[str, object]:
    from ml.option_fields import option_fields

    inputs = [
        {"name": each.name, "type": each.type.value, "required": each.required, "help": each.help}
        for each in run_type.inputs
    ]
    options = [
        {
            "name": each.name,
            "type": each.type.__name__,
            "default": each.default,
            "low": each.low,
            "high": each.high,
            "choices": list(each.choices),
            "help": each.help,
        }
        for each in option_fields(run_type.Options)
    ]
    return {
        "name": run_type.name,
        "summary": run_type.summary,
        "lane": run_type.lane.value,
        "presets": list(run_type.presets),
        "inputs": inputs,
        "options": options,
    }


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
def run_list(
    as_json: AsJson = False,
) -> None:
    """List the latest runs."""
    from app.migrations import migrated_database
    from app.runs.queue import list_runs

    with migrated_database(Settings()).session() as session:
        found = list_runs(session)
    if as_json:
        print_json(row_values(run, without=_LONG) for run in found)
        return
    table = Table("id", "run", "status", "progress", "started", box=None, pad_edge=False)
    for run in found:
        started = f"{run.started_at:%m-%d %H:%M}" if run.started_at else ""
        table.add_row(str(run.id)[:8], run.name or run.run_type, run.status, _step(run), started)
    Console().print(table)
    # Beside the other columns there is no room for a sentence.
    for run in found:
        if run.reason:
            print(f"{str(run.id)[:8]}: {run.reason}")


def _step(run: "Run") -> str:
    from app.runs.progress import RunProgress

    progress = RunProgress.model_validate(run.progress)
    if progress.step is None:
        return ""
    return f"{progress.step:g}" + ("" if progress.of is None else f" of {progress.of:g}")


@run_app.command("show")
def run_show(
    id: RunId,
    as_json: AsJson = False,
) -> None:
    """Show a run and the end of its log."""
    from app.migrations import migrated_database

    with migrated_database(Settings()).session() as session:
        run = _named(session, id)
    if as_json:
        print_json(row_values(run, without=_LONG))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in row_values(run, without=_LONG).items():
        if isinstance(value, dict):
            for key, inner in value.items():
                table.add_row(f"{name}: {key}", _text(inner))
        elif value not in (None, ""):
            table.add_row(name, _text(value))
    Console().print(table)
    print(run.log_tail)


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    return "" if value is None else str(value)


def _named(session: "Session", id: str) -> "Run":
    """The run whose id begins with these letters."""
    from sqlalchemy import select

    from app.runs.queue import get_run
    from app.runs.tables import Run

    try:
        return get_run(session, uuid.UUID(id))
    except ValueError:
        pass
    known = session.scalars(select(Run.id)).all()
    found = [one for one in known if str(one).startswith(id.lower())]
    if len(found) != 1:
        raise XrayError(f"{len(found)} runs have an id that begins with {id!r}: see xray run list")
    return get_run(session, found[0])


@run_app.command("cancel")
def run_cancel(id: RunId) -> None:
    """Cancel a run: at once if it is queued, within seconds if it is running."""
    from app.migrations import migrated_database
    from app.runs.queue import request_cancel

    with migrated_database(Settings()).session() as session:
        run = _named(session, id)
        print(request_cancel(session, run.id, requested_by=STARTED_BY).status)


@run_app.command("delete")
def run_delete(id: RunId) -> None:
    """Delete a run that has ended, with its files; what it registered stays."""
    from app.migrations import migrated_database
    from app.runs.deletion import delete_run

    settings = Settings()
    with migrated_database(settings).session() as session:
        freed = delete_run(session, settings, _named(session, id).id, by=STARTED_BY)
    print(f"deleted, {freed / 1e6:.1f} MB freed")


@run_app.command("resume")
def run_resume(id: RunId) -> None:
    """Resume a failed or cancelled run where it stopped."""
    from app.migrations import migrated_database
    from app.runs.broker import notify_workers
    from app.runs.queue import resume

    settings = Settings()
    with migrated_database(settings).session() as session:
        run = resume(session, _named(session, id).id, requested_by=STARTED_BY)
    notify_workers(settings, run)
    print(run.status)
