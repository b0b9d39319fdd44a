"""What the pages of validations show of runs and of clinics' thresholds."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.tables import Clinic
from app.core.language import number, translated
from app.registry.tables import ModelVersion
from app.runs.queue import STATUS_NAMES
from app.runs.tables import Run
from app.validation.service import RUN_TYPE, list_versions
from app.validation.tables import ClinicThresholds
from ml.labels import label_name
from ml.texts import msg

MOST_RUNS = 50


@dataclass(frozen=True, slots=True)
class ValidationSummary:
    """A validation in the list."""

    url: str
    created_at: datetime
    status: str
    images: str


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version of a clinic's thresholds.

    Attributes:
        is_in_use: whether it is the clinic's newest for its classifier.
        thresholds: as text; those of the classifier have none.
    """

    id: int
    clinic: str
    clinic_id: uuid.UUID
    version: int
    at: datetime
    by: str
    why: str
    model_sha256: str
    model_version: str
    thresholds: str
    run_url: str
    is_in_use: bool

    @classmethod
    def of(cls, row: ClinicThresholds, model_version: str, *, in_use: bool) -> Self:
        """Show a row."""
        return cls(
            id=row.id,
            clinic=row.clinic.name,
            clinic_id=row.clinic_id,
            version=row.version,
            at=row.at,
            by=row.by,
            why=row.why,
            model_sha256=row.model_sha256,
            model_version=model_version,
            thresholds=threshold_text(row.by_label) or msg("those of the classifier"),
            run_url=f"/validate/{row.run_id}" if row.run_id else "",
            is_in_use=in_use,
        )


def threshold_text(by_label: Mapping[str, float]) -> str:
    """Thresholds in a line: "COVID-19 never, Normal 0.912"."""
    return ", ".join(
        f"{translated(label_name(label))} {number(level, 3) if level <= 1 else translated('never')}"
        for label, level in by_label.items()
    )


def validations(session: Session) -> list[ValidationSummary]:
    """The newest validation runs."""
    query = select(Run).where(Run.run_type == RUN_TYPE).order_by(Run.created_at.desc())
    return [
        ValidationSummary(
            url=f"/validate/{run.id}",
            created_at=run.created_at,
            status=STATUS_NAMES[run.status],
            images=str(run.result.get("images", "")),
        )
        for run in session.scalars(query.limit(MOST_RUNS))
    ]


def version_views(session: Session) -> list[VersionView]:
    """All versions of all clinics, newest first."""
    rows = list_versions(session)
    query = select(ModelVersion.sha256, ModelVersion.version)
    used = query.where(ModelVersion.sha256.in_({row.model_sha256 for row in rows}))
    names = {row.sha256: row.version for row in session.execute(used)}
    views, seen = [], set[tuple[uuid.UUID, str]]()
    for row in rows:
        key = (row.clinic_id, row.model_sha256)
        views.append(VersionView.of(row, names[row.model_sha256], in_use=key not in seen))
        seen.add(key)
    return views


def clinics_by_id(session: Session) -> dict[str, str]:
    """The names of clinics by id, for a list to choose from."""
    query = select(Clinic).order_by(Clinic.name)
    return {str(clinic.id): clinic.name for clinic in session.scalars(query)}
