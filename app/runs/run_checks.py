"""What a form says about a run before it starts: how long it takes, and the equal command."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.database import now
from app.runs.command_line import start_command
from app.runs.estimates import Estimator, RunEstimate
from app.runs.handlers.base import RunType
from app.runs.phases import runs_ahead
from app.runs.run_types import types_of
from app.runs.tables import Run, RunQueue, RunStatus
from app.settings import Settings
from ml.json_model import JsonObject


@dataclass(frozen=True, slots=True)
class RunCheck:
    """What is known of a run before it starts.

    Attributes:
        estimate: how long it is likely to take; None where that is not known.
        queue: its device.
        ahead: how many queued runs start before it.
        at_work: how many runs of its device and lane are at work.
        command: the command that starts the same run.
    """

    estimate: RunEstimate | None
    queue: RunQueue
    ahead: int
    at_work: int
    command: str


def check_run(
    session: Session,
    settings: Settings,
    run_type: RunType,
    options: JsonObject,
    *,
    queue: RunQueue,
    priority: int,
) -> RunCheck:
    """What is known of a run before it starts.

    Args:
        session: the database.
        settings: of this installation.
        run_type: of the run.
        options: checked inputs and options.
        queue: its device.
        priority: of the run.
    """
    planned = Run(run_type=run_type.name, queue=queue, priority=priority, created_at=now())
    running = select(func.count()).where(
        Run.status == RunStatus.RUNNING,
        Run.queue == queue,
        Run.run_type.in_(types_of([run_type.lane])),
    )
    return RunCheck(
        estimate=Estimator(session, settings, run_type).estimate(options, queue),
        queue=queue,
        ahead=runs_ahead(session, planned),
        at_work=session.scalar(running) or 0,
        command=start_command(run_type, options, queue, priority),
    )
