"""Record comparisons of two classifiers, and find the one that the promotion checks go by."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from app.core.database import now
from app.datasets.tables import DataVersion
from app.registry.promotion import ComparisonFindings
from app.registry.tables import Comparison, ModelVersion
from app.runs.tables import Run
from ml.data.manifest import DEMONSTRATION
from ml.errors import XrayError
from ml.evaluation.comparison_report import COMPARISON, ComparisonReport
from ml.json_model import InvalidJson

# Read by the database: a report names every image whose prediction changes, so it may be large.
_CARD_REPRODUCED = Comparison.metrics["card_reproduced"].as_boolean()
_HAS_STAND_INS = or_(
    Comparison.metrics[("data", DEMONSTRATION)].as_string().is_not(None),
    and_(
        DataVersion.sha256.is_not(None),
        DataVersion.summary["demonstration"].as_integer().is_not(None),
        DataVersion.summary["demonstration"].as_integer() > 0,
    ),
)


class ComparisonError(XrayError):
    """A comparison that `xray compare classifiers` did not write, or of unregistered models."""


def record_comparison(session: Session, folder: Path, *, run: Run | None) -> Comparison:
    """Record the result of `xray compare classifiers`.

    Args:
        session: the database.
        folder: has a `comparison.json`.
        run: the run that wrote it.

    Raises:
        ComparisonError: the file is missing or not a comparison, or of unregistered models.
    """
    path = folder / COMPARISON
    try:
        report = ComparisonReport.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InvalidJson) as problem:
        raise ComparisonError(f"{path} is not a comparison of classifiers: {problem}") from problem
    for side in (report.candidate, report.reference):
        if session.get(ModelVersion, side.sha256) is None:
            raise ComparisonError(
                f"{path} is about model {side.sha256[:12]}, which is not registered. Register it "
                "first."
            )
    comparison = Comparison(
        created_at=now(),
        run_id=run.id if run else None,
        candidate_sha256=report.candidate.sha256,
        reference_sha256=report.reference.sha256,
        data_sha256=run.data_sha256 if run else None,
        passed=report.passed,
        faults=report.faults,
        metrics=report.as_json(),
    )
    session.add(comparison)
    session.flush()
    return comparison


def find_comparisons(
    session: Session, *conditions: ColumnElement[bool]
) -> list[ComparisonFindings]:
    """What comparisons found, newest first."""
    query = (
        select(
            Comparison.id,
            Comparison.created_at,
            Comparison.candidate_sha256,
            Comparison.reference_sha256,
            Comparison.data_sha256,
            Comparison.faults,
            _CARD_REPRODUCED,
            _HAS_STAND_INS,
        )
        .outerjoin(DataVersion, DataVersion.sha256 == Comparison.data_sha256)
        .where(*conditions)
        .order_by(Comparison.created_at.desc())
    )
    return [ComparisonFindings(*row) for row in session.execute(query)]


def comparisons_of(session: Session, model: ModelVersion) -> list[ComparisonFindings]:
    """The comparisons that a model took part in, newest first."""
    return find_comparisons(
        session,
        or_(
            Comparison.candidate_sha256 == model.sha256, Comparison.reference_sha256 == model.sha256
        ),
    )


def deciding_comparison(
    candidate: ModelVersion, comparisons: Sequence[ComparisonFindings]
) -> ComparisonFindings | None:
    """The comparison that the promotion checks go by.

    The newest one on the candidate's training data counts or, where that is not known, on the
    images of its card. So a result is not undone by a comparison on other images. Without such a
    comparison the newest one counts.

    Args:
        candidate: the classifier that may be activated.
        comparisons: with the active version, newest first.
    """
    own = [one for one in comparisons if one.candidate_sha256 == candidate.sha256]
    for one in own:
        is_on_own_images = (
            one.data_sha256 == candidate.data_sha256
            if candidate.data_sha256
            else one.card_reproduced is not None
        )
        if is_on_own_images:
            return one
    return own[0] if own else None


def find_deciding_comparison(
    session: Session, candidate: ModelVersion, active: str | None
) -> ComparisonFindings | None:
    """Look up the comparison with the active version that the promotion checks go by."""
    comparisons = find_comparisons(
        session,
        Comparison.candidate_sha256 == candidate.sha256,
        Comparison.reference_sha256 == active,
    )
    return deciding_comparison(candidate, comparisons)
