"""Announcing the ends of runs, by webhook and by e-mail."""

from sqlalchemy.orm import Session

from app.core.notifications import notify
from app.runs.links import run_url
from app.runs.tables import Run, RunStatus
from app.settings import Settings


def announce_end(session: Session, settings: Settings, run: Run, status: RunStatus) -> None:
    """Announce that a run has ended; without its reason, which may name files of patients.

    Args:
        session: in which the end is recorded.
        settings: of this installation.
        run: the run.
        status: how it ended.
    """
    detail = {"run": str(run.id), "run_type": run.run_type}
    notify(session, settings, f"run.{status.value}", detail, path=run_url(run.id))
