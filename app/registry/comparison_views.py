"""The page of one comparison: metrics side by side, and the images whose prediction changes."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

from sqlalchemy.orm import Session

from app.core.links import PageLink
from app.datasets.links import data_link
from app.datasets.tables import DataVersion
from app.datasets.versions import data_folder
from app.registry.comparisons import find_comparisons
from app.registry.links import model_link
from app.registry.model_views import blockers_by_comparison, comparison_url
from app.registry.promotion import Blocker
from app.registry.tables import Comparison, ModelVersion
from app.runs.links import run_link
from app.runs.tables import Run
from app.settings import Settings
from ml.classifier.predictor import decision_name
from ml.evaluation.comparison_report import (
    ChangedPrediction,
    ComparisonReport,
    ImagePrediction,
)
from ml.evaluation.results import EvaluationMetrics
from ml.labels import label_name
from ml.reporting.format import interval, three
from ml.texts import Number, msg

IMAGES_PER_PAGE = 24


class PredictionChange(StrEnum):
    """How the prediction for an image changes."""

    BETTER = "better"  # correct with the candidate, not with the reference
    WORSE = "worse"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """A metric of both classifiers as text; `interval` is empty where none was computed."""

    name: str
    candidate: str
    reference: str
    difference: str
    interval: str


@dataclass(frozen=True, slots=True)
class ChangedImageView:
    """An image whose prediction changes.

    Attributes:
        number: its place in the report.
        is_available: whether its file is still in the data set.
    """

    number: int
    image: str
    truth: str
    candidate: str
    reference: str
    candidate_decision: str
    reference_decision: str
    is_available: bool

    @classmethod
    def of(cls, number: int, changed: ChangedPrediction, folder: Path | None) -> Self:
        """Show an entry of a report; `folder` is that of the data set, if it is registered."""
        return cls(
            number=number,
            image=changed.image,
            truth=label_name(changed.label),
            candidate=_prediction_text(changed.candidate),
            reference=_prediction_text(changed.reference),
            candidate_decision=changed.candidate.decision,
            reference_decision=changed.reference.decision,
            is_available=folder is not None and (folder / changed.image).is_file(),
        )


def change_of(changed: ChangedPrediction) -> PredictionChange:
    """Whether the candidate's decision is better than the reference's."""
    is_right = changed.candidate.decision == changed.label
    was_right = changed.reference.decision == changed.label
    if is_right == was_right:
        return PredictionChange.OTHER
    return PredictionChange.BETTER if is_right else PredictionChange.WORSE


def _prediction_text(prediction: ImagePrediction) -> str:
    probability = Number(100 * prediction.probability)
    name = label_name(prediction.label)
    if prediction.decision == prediction.label:
        return msg("%(name)s, %(probability)s %%", name=name, probability=probability)
    return msg(
        "%(decision)s (most likely: %(name)s, %(probability)s %%)",
        decision=decision_name(prediction.decision),
        name=name,
        probability=probability,
    )


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """A comparison on its own page.

    Attributes:
        blockers: the promotion checks that the candidate fails by this comparison.
        card_reproduced: None where the images are not those of the card.
        counts: changed images by kind of change.
        page: of the images shown, from 1.
    """

    id: uuid.UUID
    url: str
    at: datetime
    candidate: PageLink
    reference: PageLink
    blockers: list[Blocker]
    card_reproduced: bool | None
    images: int
    patients: int
    metrics: list[MetricComparison]
    data: PageLink | None
    run: PageLink | None
    counts: dict[str, int]
    shown: list[ChangedImageView]
    page: int
    pages: int

    @classmethod
    def of(
        cls, session: Session, settings: Settings, row: Comparison, change: str, page: int
    ) -> Self:
        """Show a row, and one page of the images of one kind of change; empty shows all."""
        report = row.report
        (found,) = find_comparisons(session, Comparison.id == row.id)
        changes = [change_of(one) for one in report.changed]
        wanted = [number for number, each in enumerate(changes) if change in ("", each)]
        pages = max(1, -(-len(wanted) // IMAGES_PER_PAGE))
        page = min(max(page, 1), pages)
        shown = wanted[(page - 1) * IMAGES_PER_PAGE : page * IMAGES_PER_PAGE]
        data = session.get(DataVersion, row.data_sha256) if row.data_sha256 else None
        folder = data_folder(settings, data) if data else None
        run = session.get(Run, row.run_id) if row.run_id else None
        candidate = session.get_one(ModelVersion, row.candidate_sha256)
        reference = session.get_one(ModelVersion, row.reference_sha256)
        return cls(
            id=row.id,
            url=comparison_url(found),
            at=row.created_at,
            candidate=model_link(candidate),
            reference=model_link(reference),
            blockers=blockers_by_comparison(candidate, reference, found),
            card_reproduced=report.card_reproduced,
            images=report.images,
            patients=report.patients,
            metrics=compared_metrics(report),
            data=data_link(data) if data else None,
            run=run_link(run) if run else None,
            counts={each.value: changes.count(each) for each in PredictionChange},
            shown=[ChangedImageView.of(n, report.changed[n], folder) for n in shown],
            page=page,
            pages=pages,
        )


def compared_metrics(report: ComparisonReport) -> list[MetricComparison]:
    """The metrics of both classifiers; the first two have a paired interval of the difference."""
    ours, theirs = report.candidate.metrics, report.reference.metrics
    paired = (
        (msg("Accuracy"), ours.accuracy, theirs.accuracy, report.differences.accuracy),
        (msg("Macro AUROC"), ours.macro_auroc, theirs.macro_auroc, report.differences.macro_auroc),
    )
    rows = [
        MetricComparison(
            name,
            "{} ({})".format(*interval(one)),
            "{} ({})".format(*interval(other)),
            signed(difference.value),
            f"{signed(difference.low)} to {signed(difference.high)}",
        )
        for name, one, other, difference in paired
    ]
    values = zip(_unpaired(ours), _unpaired(theirs), strict=True)
    return rows + [
        MetricComparison(name, three(one), three(other), signed(one - other), "")
        for (name, one), (_, other) in values
    ]


def _unpaired(metrics: EvaluationMetrics) -> Iterator[tuple[str, float]]:
    yield msg("Calibration error"), metrics.calibration_error
    yield msg("Coverage"), metrics.selective.coverage
    yield msg("Accuracy of confident predictions"), metrics.selective.accuracy_when_answering
    for label, own in metrics.per_class.items():
        yield msg("%(name)s, recall", name=label_name(label)), own.recall
        yield msg("%(name)s, precision", name=label_name(label)), own.precision


def signed(value: float) -> str:
    """A difference with a typographic sign; no sign where three decimals leave nothing."""
    if value != value:
        return "not defined"
    text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
    return "0.000" if text[1:] == "0.000" else text
