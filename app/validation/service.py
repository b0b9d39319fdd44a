"""Thresholds of clinics: which are used, and how another version comes into use."""

import uuid
from collections.abc import Mapping

from pydantic import JsonValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from app.accounts.tables import Clinic
from app.core.audit import AuditEvent
from app.core.errors import Conflict, InvalidForm, NotFound
from app.runs.tables import Run
from app.validation.tables import ClinicThresholds
from ml.evaluation.local_validation import ValidationReport
from ml.json_model import InvalidJson
from ml.texts import msg

LONGEST_REASON = 1000
RUN_TYPE = "validate-classifier"


def thresholds_in_use(
    session: Session, clinic_id: uuid.UUID, model_sha256: str
) -> ClinicThresholds | None:
    """The thresholds that a clinic uses with a classifier; None: those of the classifier."""
    newest = session.scalar(
        select(ClinicThresholds)
        .where(
            ClinicThresholds.clinic_id == clinic_id,
            ClinicThresholds.model_sha256 == model_sha256,
        )
        .order_by(ClinicThresholds.version.desc())
        .limit(1)
    )
    return newest if newest and newest.by_label else None


def list_versions(session: Session) -> list[ClinicThresholds]:
    """All versions of all clinics, newest first."""
    query = select(ClinicThresholds).options(joinedload(ClinicThresholds.clinic))
    return list(session.scalars(query.order_by(ClinicThresholds.id.desc())))


def find_version(session: Session, id: int) -> ClinicThresholds:
    """A version of a clinic's thresholds.

    Raises:
        NotFound: there is none with this id.
    """
    found = session.get(ClinicThresholds, id)
    if found is None:
        raise NotFound(msg("There is no such version of thresholds."))
    return found


def report_of(run: Run) -> ValidationReport:
    """What a validation run has measured.

    Raises:
        NotFound: the run is of another type.
        Conflict: it has not succeeded, or its result is of another version of this software.
    """
    if run.run_type != RUN_TYPE:
        raise NotFound(msg("This run is no validation."))
    if not run.result:
        raise Conflict(msg("This validation has no result yet."))
    try:
        return ValidationReport.from_values(run.result["report"])
    except (InvalidJson, KeyError):
        raise Conflict(msg("The result is of another version. Validate again.")) from None


def use_report(
    session: Session, clinic: Clinic, run: Run, *, why: str, by: str
) -> ClinicThresholds:
    """Let a clinic use the thresholds that a validation has fitted, from now on.

    Raises:
        Conflict: the validation has none.
        InvalidForm: the reason is missing or too long.
    """
    report = report_of(run)
    if report.labelled is None:
        raise Conflict(
            msg("Without labels no thresholds were fitted. Validate on labelled images.")
        )
    evidence = {"images": report.images, **report.labelled.estimated_json()}
    return _add(
        session,
        clinic.id,
        report.sha256,
        report.labelled.thresholds,
        why=why,
        by=by,
        run_id=run.id,
        evidence=evidence,
    )


def use_again(
    session: Session, earlier: ClinicThresholds, *, why: str, by: str
) -> ClinicThresholds:
    """Let a clinic use an earlier version again, as another version.

    Raises:
        InvalidForm: the reason is missing or too long.
    """
    return _add(
        session,
        earlier.clinic_id,
        earlier.model_sha256,
        earlier.by_label,
        why=why,
        by=by,
        run_id=earlier.run_id,
        evidence=earlier.evidence,
    )


def use_classifier(
    session: Session, clinic: Clinic, model_sha256: str, *, why: str, by: str
) -> ClinicThresholds:
    """Let a clinic use the thresholds of a classifier itself.

    Raises:
        InvalidForm: the reason is missing or too long.
    """
    return _add(session, clinic.id, model_sha256, {}, why=why, by=by)


def _add(
    session: Session,
    clinic_id: uuid.UUID,
    model_sha256: str,
    by_label: Mapping[str, float],
    *,
    why: str,
    by: str,
    run_id: uuid.UUID | None = None,
    evidence: Mapping[str, JsonValue] | None = None,
) -> ClinicThresholds:
    why = why.replace("\0", "").strip()
    if not 0 < len(why) <= LONGEST_REASON:
        raise InvalidForm(
            {
                "why": msg(
                    "Enter a reason of 1 to %(longest_reason)s characters.",
                    longest_reason=LONGEST_REASON,
                )
            }
        )
    newest = select(func.max(ClinicThresholds.version)).where(
        ClinicThresholds.clinic_id == clinic_id
    )
    row = ClinicThresholds(
        clinic_id=clinic_id,
        version=(session.scalar(newest) or 0) + 1,
        by=by,
        model_sha256=model_sha256,
        by_label=dict(by_label),
        why=why,
        run_id=run_id,
        evidence=dict(evidence or {}),
    )
    session.add(row)
    session.add(
        AuditEvent(
            actor=by,
            action="clinic.thresholds",
            subject=str(clinic_id),
            detail={
                "version": row.version,
                "model": model_sha256,
                "thresholds": ", ".join(f"{k} {v:.3f}" for k, v in row.by_label.items())
                or "of the classifier",
                "why": why,
            },
        )
    )
    session.flush()
    return row
