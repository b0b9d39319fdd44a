"""The program of a run: its command and the file with its options."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from app.runs.run_types import RUN_TYPES
from app.runs.tables import Run, RunQueue

# Not options.json: a training writes that itself, to compare its options when it resumes.
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
    prepared: Mapping[str, JsonValue] | None = None,
) -> Path:
    """Write what a run's program is started with, one JSON object.

    Args:
        run: the run.
        folder: of the run.
        paths: where the program finds each input that the run names.
        prepared: changes of the run type; None removes an option.

    Returns:
        The file.
    """
    run_type = RUN_TYPES[run.run_type]
    values: dict[str, JsonValue] = {"out": str(folder / run_type.out)}
    if run_type.uses_device:
        values["device"] = "cuda" if run.queue is RunQueue.GPU else "cpu"
    values |= run_type.known_options(run.options)
    values |= {name: path if isinstance(path, str) else [*path] for name, path in paths.items()}
    values |= prepared or {}
    given = {name: value for name, value in values.items() if value is not None}
    file = folder / OPTIONS
    file.write_text(json.dumps(given, indent=2) + "\n", encoding="utf-8")
    return file
