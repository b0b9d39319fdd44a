"""A stand-in for a trainer: it counts, keeps its count in a file, and resumes from it.

And for the result of a training: when it has counted to the end, it is registered as a model.
"""

import hashlib
import os
import sys
import time
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic.dataclasses import dataclass

from app.registry.tables import ModelKind, ModelVersion
from app.runs.handlers.base import (
    Completion,
    Input,
    InputType,
    RunResult,
    RunType,
    StepCount,
    typed_options,
)
from app.runs.handlers.train_classifier import RegisteredClassifier
from app.runs.run_types import RUN_TYPES
from app.runs.tables import RunLane

if TYPE_CHECKING:
    from celery import Celery

    from app.settings import Settings

MODEL = "model.txt"
VISIBILITY_TIMEOUT = "STAND_IN_VISIBILITY_TIMEOUT_S"
# For a process that is started by another one than the test: Python imports it by this name.
SITE = """
import sys
if "app.cli" in sys.orig_argv:
    from tests.faults.stand_in import register
    register()
"""


@dataclass(frozen=True)
class StandInOptions:
    """Options of the counting program and of what follows it."""

    steps: int = Field(default=10, ge=1)
    step_s: float = Field(default=0.05, ge=0)
    fail_at: int = 0  # the step at which it fails; 0: never
    dies_after: str = ""  # "any" step, or the number of one: killed when that is saved
    stubborn: bool = False  # whether it ignores SIGTERM
    registers: bool = False
    completing_s: float = 0.0


class StandIn(RunType):
    """A run type whose program counts; the count can be registered as a model."""

    name = "stand-in"
    title = "Count"
    summary = "Counts."
    program = ("tests.faults.counting_program",)
    inputs = (Input("data", InputType.DATA, "Images."),)
    Options = StandInOptions
    steps = StepCount(total_option="steps", seconds_per_row=True)

    def complete(self, done: Completion) -> RunResult:
        """Register what was counted: the files first, then the row, as the real types do."""
        options = typed_options(StandInOptions, self, done.run)
        if not options.registers:
            return RunResult()
        digest = hashlib.sha256(str(done.run.id).encode()).hexdigest()
        part = done.settings.home.resolve() / "models" / f".{digest}.part"
        part.mkdir(parents=True, exist_ok=True)
        (part / MODEL).write_text((done.folder / "counter.txt").read_text())
        with (done.folder / "completions.txt").open("a") as lines:
            lines.write(f"{os.getpid()}\n")
        time.sleep(options.completing_s)
        if not part.with_name(digest).exists():
            part.rename(part.with_name(digest))
        done.session.add(
            ModelVersion(
                sha256=digest,
                kind=ModelKind.CLASSIFIER,
                version="counted",
                card={},
                parents=[],
                folder=f"models/{digest}",
                run_id=done.run.id,
            )
        )
        done.session.flush()
        return RegisteredClassifier(classifier=digest, version="counted")


class ShortStandIn(StandIn):
    """The same as a short run."""

    name = "short-stand-in"
    lane = RunLane.SHORT


def register() -> None:
    """Make both run types of this process."""
    RUN_TYPES[StandIn.name] = StandIn()
    RUN_TYPES[ShortStandIn.name] = ShortStandIn()
    if seconds := os.environ.get(VISIBILITY_TIMEOUT):
        _hide_messages_for(float(seconds))


def work(lease_s: float) -> None:
    """Be a worker."""
    from app.runs.tables import RunQueue
    from app.settings import Settings
    from app.worker.worker import Worker

    register()
    sys.exit(Worker(Settings(), list(RunQueue), lease_s).work())


def _hide_messages_for(seconds: float) -> None:
    """Have the broker deliver again whatever is not acknowledged in that time."""
    from app.runs import celery_broker

    create = celery_broker.create_celery

    def create_celery(settings: "Settings") -> "Celery":
        celery = create(settings)
        celery.conf.broker_transport_options = {"visibility_timeout": seconds}
        return celery

    celery_broker.create_celery = create_celery
