"""Links to runs."""

import uuid

from app.core.links import PageLink
from app.runs.run_types import run_type_title
from app.runs.tables import Run


def run_url(id: uuid.UUID) -> str:
    """The page of a run."""
    return f"/admin/runs/{id}"


def run_link(run: Run) -> PageLink:
    """A link to a run: its type and date."""
    title = f"{run_type_title(run.run_type)}, {run.created_at:%Y-%m-%d}"
    return PageLink("run", title, run_url(run.id))
