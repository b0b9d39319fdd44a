"""What the console shows of a comparison between two classifiers."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from sqlalchemy.orm import Session

from app.datasets.tables import DataVersion
from app.datasets.versions import data_folder
from app.registry.comparisons import (
    comparison_faults,
)
from app.registry.tables import Comparison, ModelVersion
from app.registry.views import comparison_url, data_link, run_link
from app.runs.tables import Run
from app.runs.views import Link, model_link
from app.screenings.views import decision_name
from app.settings import Settings
from ml.labels import label_name
from ml.reporting.format import interval, three

IMAGES_PER_PAGE = 24

# --- two classifiers -----------------------------------------------------------------------------


class Change(StrEnum):
    """What became of the answer to an image."""

    BETTER = "better"  # the candidate answers rightly what the reference did not
    WORSE = "worse"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Beside:
    """A metric of both classifiers; the difference where it was drawn in pairs."""

    name: str
    candidate: str
    reference: str
    difference: str
    interval: str


@dataclass(frozen=True, slots=True)
class ChangedImage:
    """An image that the two answer differently."""

    number: int  # its place in the comparison
    image: str
    truth: str
    candidate: str
    reference: str
    candidate_decision: str
    reference_decision: str
    is_there: bool  # whether the data set still has it

    @classmethod
    def of(cls, number: int, one: Mapping[str, Any], folder: Path | None) -> Self:
        """Show an entry of `changed`; `folder` is that of the data set, where it is registered."""
        return cls(
            number=number,
            image=one["image"],
            truth=label_name(one["label"]),
            candidate=_answer(one["candidate"]),
            reference=_answer(one["reference"]),
            candidate_decision=one["candidate"]["decision"],
            reference_decision=one["reference"]["decision"],
            is_there=folder is not None and (folder / one["image"]).is_file(),
        )


def _change(one: Mapping[str, Any]) -> Change:
    """What became of the answer to an image."""
    now_right, was_right = (
        one[side]["decision"] == one["label"] for side in ("candidate", "reference")
    )
    if now_right == was_right:
        return Change.OTHER
    return Change.BETTER if now_right else Change.WORSE


def _answer(side: Mapping[str, Any]) -> str:
    probability = f"{100 * side['probability']:.0f} %"
    if side["decision"] == side["label"]:
        return f"{label_name(side['label'])}, {probability}"
    return f"{decision_name(side['decision'])}; {label_name(side['label'])} at {probability}"


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """A comparison on its own page.

    Attributes:
        faults: why it does not open the promotion checks for its candidate; none where it does.
        card_reproduced: None where the images are not those of the card.
        counts: images whose answer changed, by what became of it.
        page: of the images shown, from 1.
    """

    id: uuid.UUID
    url: str
    at: datetime
    candidate: Link
    reference: Link
    faults: list[str]
    card_reproduced: bool | None
    images: int
    patients: int
    metrics: list[Beside]
    per_class: list[Beside]
    data: Link | None
    run: Link | None
    counts: dict[str, int]
    shown: list[ChangedImage]
    page: int
    pages: int

    @classmethod
    def of(
        cls, session: Session, settings: Settings, row: Comparison, which: str, page: int
    ) -> Self:
        """Show a row, and one page of the images of one kind of change, or of all."""
        found = row.metrics
        candidate, reference = (found[side]["metrics"] for side in ("candidate", "reference"))
        changes = [_change(one) for one in found["changed"]]
        wanted = [number for number, change in enumerate(changes) if which in ("", change)]
        pages = max(1, -(-len(wanted) // IMAGES_PER_PAGE))
        page = min(max(page, 1), pages)
        shown = wanted[(page - 1) * IMAGES_PER_PAGE : page * IMAGES_PER_PAGE]
        data = session.get(DataVersion, row.data_sha256) if row.data_sha256 else None
        folder = data_folder(settings, data) if data else None
        run = session.get(Run, row.run_id) if row.run_id else None
        model = session.get_one(ModelVersion, row.candidate_sha256)
        return cls(
            id=row.id,
            url=comparison_url(row),
            at=row.created_at,
            candidate=model_link(model),
            reference=model_link(session.get_one(ModelVersion, row.reference_sha256)),
            faults=comparison_faults(session, model, row),
            card_reproduced=found.get("card_reproduced"),
            images=found["images"],
            patients=found["patients"],
            metrics=_beside(candidate, reference, found["differences"]),
            per_class=_classes_beside(candidate, reference),
            data=data_link(data) if data else None,
            run=run_link(run) if run else None,
            counts={change.value: changes.count(change) for change in Change},
            shown=[ChangedImage.of(number, found["changed"][number], folder) for number in shown],
            page=page,
            pages=pages,
        )


def _beside(
    candidate: Mapping[str, Any], reference: Mapping[str, Any], differences: Mapping[str, Any]
) -> list[Beside]:
    rows = []
    for key, name in (("accuracy", "Accuracy"), ("macro_auroc", "Macro AUROC")):
        ours, theirs = ("{} ({})".format(*interval(side[key])) for side in (candidate, reference))
        drawn = differences[key]
        bounds = f"{_signed(drawn['low'])} to {_signed(drawn['high'])}"
        rows.append(Beside(name, ours, theirs, _signed(drawn["value"]), bounds))
    return rows + [
        _plainly_beside(name, candidate, reference, keys)
        for name, keys in (
            ("Calibration error", ("calibration_error",)),
            ("Share of images answered", ("selective", "coverage")),
            ("Accuracy of those", ("selective", "accuracy_when_answering")),
        )
    ]


def _classes_beside(candidate: Mapping[str, Any], reference: Mapping[str, Any]) -> list[Beside]:
    return [
        _plainly_beside(
            f"{label_name(label)}, {key}", candidate, reference, ("per_class", label, key)
        )
        for label in candidate["per_class"]
        for key in ("recall", "precision")
    ]


def _plainly_beside(
    name: str, candidate: Mapping[str, Any], reference: Mapping[str, Any], keys: Sequence[str]
) -> Beside:
    """A metric of which no interval was drawn."""
    ours, theirs = _at(candidate, keys), _at(reference, keys)
    difference = "" if ours is None or theirs is None else _signed(ours - theirs)
    return Beside(name, three(ours), three(theirs), difference, "")


def _at(metrics: Any, keys: Sequence[str]) -> float | None:
    """The metric that keys lead to; None where it is not defined."""
    for key in keys:
        metrics = metrics[key]
    return None if metrics is None else float(metrics)


def _signed(value: float | None) -> str:
    """With the sign that people write, and none where three decimals leave nothing."""
    if value is None:
        return "not defined"
    text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
    return "0.000" if text[1:] == "0.000" else text
