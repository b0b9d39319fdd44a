"""The program of a run: its command line, and the progress it reports."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.runs.kinds import KINDS
from app.runs.tables import Run, RunQueue

_MAX_TAIL = 64 * 2**10


def tail_of(path: Path) -> str:
    """The end of a file that is being written; nothing where there is none yet."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_TAIL))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


METRICS = "metrics.jsonl"
LOG = "log.txt"
# Not options.json: a training writes that itself, to compare it when it resumes.
OPTIONS = "run-options.json"


def program_command(options: Path, program: Sequence[str]) -> list[str]:
    """The command that starts a program, or resumes it, with the options in a file.

    Args:
        options: the file, of `write_options`.
        program: what follows `python -m`.
    """
    return [sys.executable, "-m", *program, "--options", str(options)]


def write_options(
    run: Run,
    folder: Path,
    paths: Mapping[str, str | list[str]],
    prepared: Mapping[str, Any] | None = None,
) -> Path:
    """Write what a run's program is started with, one JSON object.

    Args:
        run: the run.
        folder: of the run.
        paths: where the program finds each input that the run names.
        prepared: what the run type adds; None removes an option.

    Returns:
        The file.
    """
    kind = KINDS[run.kind]
    values: dict[str, Any] = {"out": str(folder / kind.out)}
    if kind.device:
        values["device"] = "cuda" if run.queue is RunQueue.GPU else "cpu"
    inputs = {each.name for each in kind.inputs}
    values |= {name: value for name, value in run.options.items() if name not in inputs}
    values |= {**paths, **(prepared or {})}
    file = folder / OPTIONS
    given = {name: value for name, value in values.items() if value is not None}
    file.write_text(json.dumps(given, indent=2) + "\n", encoding="utf-8")
    return file


def read_progress(folder: Path, run: Run) -> dict[str, Any]:
    """The step reached, of how many, how long it will take, and the metrics of the last one."""
    rows = tail_of(folder / METRICS).rpartition("\n")[0]
    try:
        # JSON in PostgreSQL knows no infinity.
        row = json.loads(rows.rpartition("\n")[2], parse_constant=lambda _: None)
    except ValueError:
        # No row yet, or one that a killed trainer left unfinished.
        return run.progress
    kind = KINDS[run.kind]
    if not isinstance(row, dict) or kind.step not in row:
        return run.progress
    step, of = row.pop(kind.step), row.pop("of", run.options.get(kind.steps))
    return {
        "step": step,
        "of": of,
        "eta_s": _eta(row.get("seconds"), step, of, each=kind.seconds_each),
        "images_per_second": row.get("images_per_second"),
        "metrics": row,
    }


def _eta(seconds: float | None, step: float, of: float | None, *, each: bool) -> float | None:
    """Seconds until the last step, if every further one takes as long as those before."""
    if seconds is None or of is None or not (each or step):
        return None
    return round((seconds if each else seconds / step) * max(0, of - step), 1)
