"""The program of a run: its command line, and the progress it reports."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.runs.kinds import KINDS
from app.runs.tables import Run, RunQueue
from ml.commands.options_to_flags import flag_of

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


def trainer_command(
    run: Run,
    folder: Path,
    paths: Mapping[str, Sequence[str]],
    prepared: Mapping[str, Any] | None = None,
) -> list[str]:
    """The command that does a run, or continues it in the same folder.

    Args:
        run: the run.
        folder: where it writes.
        paths: of each of its inputs, where the program finds it.
        prepared: what its kind adds to the flags; None leaves one out.
    """
    kind = KINDS[run.kind]
    told: dict[str, Any] = {"out": folder / kind.out}
    if kind.device:
        told["device"] = "cuda" if run.queue is RunQueue.GPU else "cpu"
    told |= {**run.options, **paths, **(prepared or {})}
    flags = [
        flag_of(name, each)
        for name, value in told.items()
        for each in (value if isinstance(value, list) else [value])
        if each is not None
    ]
    return [sys.executable, "-m", *kind.program, *flags]


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
