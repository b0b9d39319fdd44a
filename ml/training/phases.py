"""The phases of a program, written as it enters them, for those who watch it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

PHASES = "phases.jsonl"
Phase = Literal["reading", "training", "measuring", "exporting"]


def enter_phase(folder: Path, phase: Phase) -> None:
    """Append the phase that begins now to `phases.jsonl`; a resumed program adds to it.

    Args:
        folder: the run's folder; it is made where it is missing.
        phase: what the program does from now on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row = {"phase": phase, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
    with (folder / PHASES).open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")
