"""The phases of a run: starting, its steps, and what follows the last step."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from app.core.database import now
from app.runs.progress import RunProgress, tail_of
from app.runs.run_types import RUN_TYPES, lane_of, types_of
from app.runs.tables import Run, RunStatus
from ml.texts import msg
from ml.training.phases import PHASES

# What a run does during its steps and after them.
_STEPS = {
    "train-gan": msg("Training"),
    "train-classifier": msg("Training"),
    "synthesize": msg("Generating images"),
    "import-data": msg("Reading images"),
    "compare-conditions": msg("Training"),
}
_AFTER = {
    "train-gan": msg("Measuring and exporting"),
    "train-classifier": msg("Calibrating, measuring and exporting"),
}


# Of `ml.training.phases`.
_OF_PROGRAM = {
    "reading": msg("Reading images"),
    "training": msg("Training"),
    "measuring": msg("Measuring"),
    "exporting": msg("Exporting"),
}
_OF_TYPE = {"train-classifier": {"measuring": msg("Calibrating, measuring and exporting")}}


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run.

    Attributes:
        name: what is done.
        seconds: how long it took, or has taken so far.
        is_present: whether the run is in it.
    """

    name: str
    seconds: float
    is_present: bool


def phases_of(run: Run, folder: Path | None = None) -> list[Phase]:
    """The phases that a run has been in, in order; none before it starts.

    Args:
        run: the run.
        folder: of its files, where its program may say which phases it entered.
    """
    if run.started_at is None:
        return []
    if folder and (entered := _entered(run, folder)):
        return _of_program(run, run.started_at, entered)
    known = RunProgress.model_validate(run.progress)
    if known.step is not None and known.first_step_at is None:
        # Of version 0.1.0, which did not record when the steps began.
        return []
    end = run.finished_at or now()
    bounds = [(_start_name(run), run.started_at)]
    if known.first_step_at:
        bounds.append((_STEPS.get(run.run_type, msg("Working")), known.first_step_at))
    if known.last_step_at and known.is_complete:
        bounds.append((_AFTER.get(run.run_type, msg("Finishing")), known.last_step_at))
    is_live = run.status is RunStatus.RUNNING
    ends = [at for _, at in bounds[1:]] + [end]
    return [
        Phase(name, _seconds(at, until), is_live and number == len(bounds))
        for number, ((name, at), until) in enumerate(zip(bounds, ends, strict=True), start=1)
    ]


def _entered(run: Run, folder: Path) -> list[tuple[str, datetime]]:
    """The phases that a program entered, and when."""
    out = RUN_TYPES[run.run_type].out if run.run_type in RUN_TYPES else ""
    names = _OF_PROGRAM | _OF_TYPE.get(run.run_type, {})
    found = []
    for line in tail_of(folder / out / PHASES).splitlines():
        try:
            row = json.loads(line)
            found.append((names[row["phase"]], datetime.fromisoformat(row["at"])))
        except (ValueError, KeyError, TypeError):
            # Half a line of a program that was killed, or a phase of another version.
            continue
    return found


def _of_program(
    run: Run, started_at: datetime, entered: Sequence[tuple[str, datetime]]
) -> list[Phase]:
    """The phases with their times; those that a resumed program repeats are added up."""
    bounds = [(msg("Starting"), started_at), *entered]
    ends = [at for _, at in entered] + [run.finished_at or now()]
    seconds: dict[str, float] = {}
    for (name, at), until in zip(bounds, ends, strict=True):
        seconds[name] = seconds.get(name, 0.0) + _seconds(at, until)
    present = bounds[-1][0] if run.status is RunStatus.RUNNING else ""
    return [Phase(name, total, name == present) for name, total in seconds.items()]


def _start_name(run: Run) -> str:
    return msg("Starting") if run.run_type == "import-data" else msg("Starting and reading images")


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())


def runs_ahead(session: Session, run: Run) -> int:
    """How many queued runs of the same device and lane start before a queued one."""
    before = or_(
        Run.priority > run.priority,
        and_(Run.priority == run.priority, Run.created_at < run.created_at),
    )
    query = select(func.count()).select_from(Run)
    lane = types_of([lane_of(run.run_type)])
    query = query.where(Run.status == RunStatus.QUEUED, Run.queue == run.queue, before)
    query = query.where(Run.run_type.in_(lane))
    return session.scalar(query) or 0
