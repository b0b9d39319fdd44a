"""The phases of a run: starting, its steps, and what follows the last step."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from app.core.database import now
from app.runs.progress import RunProgress
from app.runs.run_types import lane_of, types_of
from app.runs.tables import Run, RunStatus

# What a run does during its steps and after them.
_STEPS = {
    "train-gan": "Training",
    "train-classifier": "Training",
    "synthesize": "Generating images",
    "import-data": "Reading images",
    "compare-conditions": "Training",
}
_AFTER = {
    "train-gan": "Measuring and exporting",
    "train-classifier": "Calibrating, measuring and exporting",
}


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


def phases_of(run: Run) -> list[Phase]:
    """The phases that a run has been in, in order; none before it starts."""
    if run.started_at is None:
        return []
    known = RunProgress.model_validate(run.progress)
    if known.step is not None and known.first_step_at is None:
        # Of version 0.1.0, which did not record when the steps began.
        return []
    end = run.finished_at or now()
    bounds = [(_start_name(run), run.started_at)]
    if known.first_step_at:
        bounds.append((_STEPS.get(run.run_type, "Working"), known.first_step_at))
    if known.last_step_at and known.is_complete:
        bounds.append((_AFTER.get(run.run_type, "Finishing"), known.last_step_at))
    is_live = run.status is RunStatus.RUNNING
    ends = [at for _, at in bounds[1:]] + [end]
    return [
        Phase(name, _seconds(at, until), is_live and number == len(bounds))
        for number, ((name, at), until) in enumerate(zip(bounds, ends, strict=True), start=1)
    ]


def _start_name(run: Run) -> str:
    return "Starting" if run.run_type == "import-data" else "Starting and reading images"


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
