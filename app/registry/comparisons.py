"""Comparisons of a candidate with the active classifier, and the promotion checks they feed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, defer

from app.core.database import now
from app.datasets.tables import DataVersion
from app.registry.tables import Comparison, ModelVersion
from app.runs.tables import Run
from app.settings import Settings
from ml.data.manifest import DEMONSTRATION
from ml.errors import XrayError
from ml.labels import label_name

COMPARISON = "comparison.json"
# Why the promotion checks stay shut, beside what a comparison itself found.
NOT_COMPARED = "it has not been compared with the active classifier"
OTHER_IMAGES = (
    "it was compared on other images than its card speaks of, so its card's metrics were not "
    "checked: compare it on the data set that it learned from"
)
OTHER_DATA = (
    "it was compared on another data set than the one that it learned from: compare it on that one"
)
UNKNOWN_IMAGES = (
    "its card speaks of other test images than those of the data set that it learned from, so its "
    "card's metrics could not be checked"
)
STAND_INS = (
    "the images compared are synthetic ones of the demonstration: they say nothing about patients"
)


class ComparisonError(XrayError):
    """A comparison that was not written by `xray compare classifiers`, or is of other models."""


# --- comparing -----------------------------------------------------------------------------------


def record_comparison(
    session: Session,
    settings: Settings,  # noqa: ARG001 - as of all that is called at the end of a run
    folder: Path,
    *,
    run: Run | None,
) -> Comparison:
    """Keep what `xray compare classifiers` found.

    Args:
        session: the database.
        settings: as the other registering functions have them; not needed here.
        folder: has a `comparison.json`.
        run: what made it.

    Raises:
        ComparisonError: the file is missing or not a comparison, or of models that are not here.
    """
    path = folder / COMPARISON
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        candidate, reference = found["candidate"]["sha256"], found["reference"]["sha256"]
        _require_comparison(found)
    except (OSError, KeyError, TypeError, ValueError) as problem:
        raise ComparisonError(f"{path} is not a comparison of classifiers: {problem!r}") from (
            problem
        )
    for sha256 in (candidate, reference):
        if session.get(ModelVersion, sha256) is None:
            raise ComparisonError(f"{path} is about a model that is not registered: {sha256}")
    comparison = Comparison(
        created_at=now(),
        run_id=run.id if run else None,
        candidate_sha256=candidate,
        reference_sha256=reference,
        data_sha256=run.data_sha256 if run else None,
        passed=found["passed"],
        faults=found["faults"],
        metrics=found,
    )
    session.add(comparison)
    session.flush()
    return comparison


def _require_comparison(found: Any) -> None:
    """Check all that promotion checks and pages rely on; raises KeyError, TypeError or
    ValueError.
    """
    faults = found["faults"]
    if type(found["passed"]) is not bool or not all(isinstance(fault, str) for fault in faults):
        raise ValueError("it does not say whether the candidate passed, and why not")
    if found["passed"] == bool(faults):
        raise ValueError("what it says and its faults do not agree")
    if type(found["card_reproduced"]) not in (bool, type(None)):
        raise ValueError("it does not say whether the candidate's card is reproduced")
    for side in ("candidate", "reference"):
        found[side]["version"], found[side]["metrics"]["accuracy"]["value"]
    for name in ("accuracy", "macro_auroc"):
        found["differences"][name]["value"], found["differences"][name]["low"]
    for one in found["changed"]:
        one["image"], one["label"], one["candidate"]["decision"], one["reference"]["decision"]


def list_comparisons(session: Session, model: ModelVersion) -> list[Comparison]:
    """The comparisons that a model took part in, newest first, without their metrics."""
    about = or_(
        Comparison.candidate_sha256 == model.sha256, Comparison.reference_sha256 == model.sha256
    )
    newest_first = select(Comparison).where(about).order_by(Comparison.created_at.desc())
    return list(session.scalars(newest_first.options(defer(Comparison.metrics))))


# Of the metrics of a comparison: whether the candidate reached those of its own card, NULL where
# the images were other ones; whether some stood in for patients.
_CARD_REPRODUCED = Comparison.metrics["card_reproduced"].as_boolean()
_STAND_INS = Comparison.metrics[("data", DEMONSTRATION)].as_string().is_not(None)


def comparison_faults(session: Session, model: ModelVersion, comparison: Comparison) -> list[str]:
    """Why a comparison does not open the promotion checks for its candidate; nothing where it does.

    Args:
        session: the database.
        model: the candidate.
        comparison: as `list_comparisons` gives it.
    """
    # Not the metrics whole: they name every image whose answer changes.
    named = select(_CARD_REPRODUCED, _STAND_INS).where(Comparison.id == comparison.id)
    reproduced, has_stand_ins = session.execute(named).one()
    data = session.get(DataVersion, comparison.data_sha256) if comparison.data_sha256 else None
    faults = list(comparison.faults)
    if model.data_sha256 in (None, comparison.data_sha256):
        if reproduced is None:
            faults.append(UNKNOWN_IMAGES if model.data_sha256 else OTHER_IMAGES)
    else:
        faults.append(OTHER_IMAGES if reproduced is None else OTHER_DATA)
    if has_stand_ins or (data and data.summary.get("demonstration")):
        faults.append(STAND_INS)
    return faults


def classes_differ(model: ModelVersion, present: ModelVersion) -> str:
    """Why two classifiers cannot be compared by their classes; empty where they can."""
    ours, theirs = model.card["labels"], present.card["labels"]
    if ours == theirs:
        return ""
    return (
        f"It predicts {_listed(ours)}, and the active version {present.version} predicts "
        f"{_listed(theirs)}. Only classifiers of the same classes can be compared"
    )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(label_name(label) for label in labels)


def standing_faults(session: Session, model: ModelVersion, reference: str) -> list[str]:
    """What shuts the promotion checks for a classifier that would take the place of another one.

    The newest comparison on the images that its card speaks of counts: on the data set that it
    learned from, or, where that is not known, on images of which the card gives the metrics. So
    what was found there is not undone by a comparison on other images.
    """
    present = session.get(ModelVersion, reference)
    if present and (fault := classes_differ(model, present)):
        return [fault]
    query = (
        select(Comparison)
        .where(
            Comparison.candidate_sha256 == model.sha256, Comparison.reference_sha256 == reference
        )
        .order_by(Comparison.created_at.desc())
        .limit(1)
        .options(defer(Comparison.metrics))
    )
    own = (
        Comparison.data_sha256 == model.data_sha256
        if model.data_sha256
        else _CARD_REPRODUCED.is_not(None)
    )
    found = session.scalar(query.where(own)) or session.scalar(query)
    return comparison_faults(session, model, found) if found else [NOT_COMPARED]
