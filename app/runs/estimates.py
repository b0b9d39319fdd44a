"""How long a run will take, from the measured times of earlier ones of its kind.

A run takes as long for a unit of its work (`app.runs.work`) as those before it, and as much time
besides. Those of the workers that would execute it count first, then those of other machines, then
measurements that are shipped with the application (`benchmarks.run_speeds`).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from importlib.resources import files
from statistics import median

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.runs.handlers.base import RunType
from app.runs.heartbeat import workers_alive
from app.runs.progress import RunProgress
from app.runs.tables import Run, RunQueue, RunStatus
from app.runs.work import Work
from app.settings import Settings
from ml.json_model import JsonObject

SHIPPED = "speeds.json"
# The newest runs that are looked at, and the most alike ones that count.
_LOOKED_AT = 100
_COUNTED = 5


class Measured(BaseModel):
    """The measured time of a run.

    Attributes:
        run_type: its name.
        queue: the device.
        kind: of its work.
        units: of its work.
        steps: of its work.
        steps_s: seconds of its steps; None where the program does not measure them.
        other_s: seconds of everything else: starting, reading, measuring, exporting.
        machine: where.
        day: when.
    """

    model_config = ConfigDict(frozen=True)

    run_type: str
    queue: RunQueue
    kind: str
    units: float
    steps: float
    steps_s: float | None
    other_s: float
    machine: str
    day: date


class Ground(StrEnum):
    """What an estimate rests on."""

    WORKER = "worker"  # runs on the machines whose workers are alive
    OTHER = "other"  # runs on other machines
    SHIPPED = "shipped"  # measurements that came with the application


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """How long a run is likely to take.

    Attributes:
        seconds: in all, once it starts.
        text: what it does in that time: "20,000 steps at 64 px".
        ground: what it rests on.
        runs: how many earlier runs; of shipped measurements, how many.
        machine: where they were measured.
        day: the newest of them.
    """

    seconds: float
    text: str
    ground: Ground
    runs: int
    machine: str
    day: date


class Estimator:
    """Estimates of one run type, from runs that are looked up once.

    Args:
        session: the database.
        settings: of this installation.
        run_type: of the runs.
    """

    def __init__(self, session: Session, settings: Settings, run_type: RunType):
        self._session, self._type = session, run_type
        self._alive = workers_alive(settings)
        self._past = measured_runs(session, run_type)

    def estimate(self, options: JsonObject, queue: RunQueue) -> RunEstimate | None:
        """How long a run takes; None where nothing like it has been measured.

        Args:
            options: inputs and options; those that are not needed for it may be missing.
            queue: the device.
        """
        work = self._type.work(self._session, options)
        if work is None:
            return None
        here = {
            sign.host
            for sign in self._alive
            if queue in sign.queues and self._type.lane in sign.lanes
        }
        alike = [each for each in self._past if each.kind == work.kind and each.queue is queue]
        on_workers = [each for each in alike if each.machine in here]
        shipped = [
            each
            for each in shipped_speeds()
            if (each.run_type, each.kind, each.queue) == (self._type.name, work.kind, queue)
        ]
        for ground, found in (
            (Ground.WORKER, on_workers),
            (Ground.OTHER, alike),
            (Ground.SHIPPED, shipped),
        ):
            if found:
                return _estimated(work, ground, found)
        return None


def measured_runs(session: Session, run_type: RunType) -> list[Measured]:
    """The times of the newest runs of a type that succeeded at the first attempt."""
    query = select(Run).where(
        Run.run_type == run_type.name,
        Run.status == RunStatus.SUCCEEDED,
        Run.attempts == 1,
        Run.started_at.is_not(None),
        Run.worker.is_not(None),
    )
    newest = session.scalars(query.order_by(Run.created_at.desc()).limit(_LOOKED_AT))
    return [each for run in newest if (each := measured(session, run_type, run))]


def measured(session: Session, run_type: RunType, run: Run) -> Measured | None:
    """The time of a run that succeeded; None where its work is not known any more."""
    work = run_type.work(session, run.options)
    if work is None or run.started_at is None or run.finished_at is None:
        return None
    progress = RunProgress.model_validate(run.progress)
    done = progress.step
    steps_s = progress.steps_s if done else None
    total = (run.finished_at - run.started_at).total_seconds()
    # It may have stopped early.
    share = min(1.0, done / work.steps) if done and steps_s else 1.0
    return Measured(
        run_type=run.run_type,
        queue=run.queue,
        kind=work.kind,
        units=work.units * share,
        steps=work.steps * share,
        steps_s=steps_s,
        other_s=max(0.0, total - (steps_s or 0.0)),
        machine=run.worker or "",
        day=run.finished_at.date(),
    )


@cache
def shipped_speeds() -> tuple[Measured, ...]:
    """The measurements that came with the application."""
    text = files("app.runs").joinpath(SHIPPED).read_text(encoding="utf-8")
    return tuple(TypeAdapter(list[Measured]).validate_python(json.loads(text), strict=False))


def _estimated(work: Work, ground: Ground, found: Sequence[Measured]) -> RunEstimate:
    step = work.units / work.steps
    # Those whose steps are about as large; of them the newest, as they come in that order.
    counted = sorted(found, key=lambda each: abs(math.log(each.units / each.steps / step)))
    counted = counted[:_COUNTED]
    return RunEstimate(
        seconds=median(_seconds(work, each) for each in counted),
        text=work.text,
        ground=ground,
        runs=len(counted),
        machine=", ".join(sorted({each.machine for each in counted})),
        day=max(each.day for each in counted),
    )


def _seconds(work: Work, like: Measured) -> float:
    ratio = work.units / like.units
    if like.steps_s is None:
        # A part of it does not depend on the work, and is not known: rather too long.
        return like.other_s * max(1.0, ratio)
    return like.steps_s * ratio + like.other_s
