"""A classifier on the images of one clinic: its metrics, and the thresholds it needs there."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from pydantic import JsonValue

from ml.classifier.card import ModelCard
from ml.classifier.predictor import UNCERTAIN, Prediction
from ml.data.manifest import ImageRecord
from ml.errors import DataError, counted
from ml.evaluation.binomial import clopper_pearson
from ml.evaluation.drift import DriftReference, DriftReport, compare_with_reference
from ml.evaluation.leave_site_out import HEALTHY, LEAST_PATIENTS
from ml.evaluation.local_rule import (
    ClassRule,
    RuleEstimate,
    cross_validated,
    estimate,
    fit_local_rule,
    folds,
    one_per_patient,
)
from ml.evaluation.metrics import Floats, Interval
from ml.evaluation.site_statistics import (
    SitePredictions,
    auroc_between,
    class_pairs,
    with_intervals,
)
from ml.json_model import JsonModel
from ml.labels import label_name
from ml.options.validation import ValidationOptions

REPORT_FORMAT = 1
LEAST_LABELLED, LEAST_UNLABELLED = 50, 200


class OperatingPoint(JsonModel):
    """A threshold that reaches the sensitivity asked for, and what it costs.

    Sensitivity and specificity are of images that the threshold was not fitted on.

    Attributes:
        label: the class that is looked for.
        threshold: its least probability to be named.
        positive_predictive_value: share of the named who have it, at the clinic's prevalence.
        negative_predictive_value: share of the others who do not.
    """

    label: str
    threshold: float
    sensitivity: Interval
    specificity: Interval
    positive_predictive_value: Interval
    negative_predictive_value: Interval


class LabelledResults(JsonModel):
    """What only labels can say.

    Attributes:
        auroc: "covid/normal" -> of two classes, by their relative probability.
        operating_points: for each disease with enough patients.
        own_thresholds: what the classifier's own thresholds give here.
        rules: the clinic's thresholds.
        estimated: what they give, from thresholds of other patients.
    """

    auroc: dict[str, Interval]
    operating_points: list[OperatingPoint]
    own_thresholds: RuleEstimate
    rules: list[ClassRule]
    estimated: RuleEstimate

    @property
    def thresholds(self) -> dict[str, float]:
        """The clinic's thresholds by label."""
        return {rule.label: rule.threshold for rule in self.rules}

    def estimated_json(self) -> dict[str, JsonValue]:
        """What the thresholds give, as JSON values."""
        return self.estimated.as_json()


class ValidationReport(JsonModel):
    """What `validation.json` says; intervals are 95 %.

    Attributes:
        created_at: ISO 8601, UTC.
        version: of the classifier.
        sha256: of the classifier.
        images: that could be read.
        unreadable: that could not.
        by_label: label -> images; empty without labels.
        decisions: class or "uncertain" -> images, by the classifier's own thresholds.
        labelled: None without labels.
        drift: None without a reference.
        needs: what is missing, as sentences.
    """

    format: int
    created_at: str
    version: str
    sha256: str
    labels: list[str]
    options: ValidationOptions
    images: int
    unreadable: int
    patients: int
    by_label: dict[str, int]
    decisions: dict[str, int]
    labelled: LabelledResults | None
    drift: DriftReport | None
    needs: list[str]


def validate_classifier(
    card: ModelCard,
    records: Sequence[ImageRecord],
    predictions: Sequence[Prediction],
    options: ValidationOptions,
    *,
    labelled: bool,
    unreadable: int = 0,
    reference: DriftReference | None = None,
) -> ValidationReport:
    """Measure a classifier on the images of a clinic.

    Args:
        card: of the classifier.
        records: the images that could be read; without labels only their paths count.
        predictions: for them, as they would be served.
        options: what the clinic asks for.
        labelled: whether the records' labels are those of the images.
        unreadable: images that could not be read.
        reference: statistics of images that the classifier knows.

    Raises:
        DataError: there are too few images; it says how many are needed.
    """
    least = LEAST_LABELLED if labelled else LEAST_UNLABELLED
    if len(records) < least:
        kind = "labelled" if labelled else "unlabelled"
        raise DataError(
            f"{counted(len(records), f'{kind} image')} cannot validate a classifier. Give at "
            f"least {LEAST_LABELLED} with labels (a manifest.csv) or {LEAST_UNLABELLED} without."
        )
    found = _arrays(card, records, predictions)
    needs = [] if labelled else [_needs_labels()]
    if reference is None:
        needs.append(
            "The classifier has no statistics of its training data. Name that data set as training "
            "data (--training-data) to compare with it."
        )
    return ValidationReport(
        format=REPORT_FORMAT,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=card.version,
        sha256=card.sha256,
        labels=list(card.labels),
        options=options,
        images=len(records),
        unreadable=unreadable,
        patients=len(set(found.patients.tolist())),
        by_label=dict(Counter(record.label for record in records)) if labelled else {},
        decisions=dict(Counter(one.decision for one in predictions)),
        drift=compare_with_reference(reference, predictions) if reference else None,
        labelled=_with_labels(found, options, needs) if labelled else None,
        needs=needs,
    )


def _needs_labels() -> str:
    return (
        "AUROC, sensitivity and thresholds need labels. Give a data set with at least "
        f"{LEAST_LABELLED} labelled images."
    )


def _arrays(
    card: ModelCard, records: Sequence[ImageRecord], predictions: Sequence[Prediction]
) -> SitePredictions:
    return SitePredictions(
        tuple(card.labels),
        np.array([record.label for record in records], dtype=np.str_),
        np.array([record.site for record in records], dtype=np.str_),
        np.array([record.patient for record in records], dtype=np.str_),
        np.array([list(one.probabilities.values()) for one in predictions]),
        np.array([one.decision != UNCERTAIN for one in predictions], dtype=np.bool_),
    )


def _with_labels(
    found: SitePredictions, options: ValidationOptions, needs: list[str]
) -> LabelledResults:
    """The part of the report that needs labels; adds what is missing for it."""
    single = one_per_patient(found)
    rules = fit_local_rule(found)
    needs += [f"{label_name(rule.label)}: {rule.why_never}" for rule in rules if rule.why_never]
    points = []
    for label in found.labels:
        if label == HEALTHY:
            continue
        if missing := _missing_patients(single, label):
            needs.append(missing)
        else:
            points.append(_operating_point(single, label, options))
    pairs = class_pairs(found, LEAST_PATIENTS)
    measures = {f"{p}/{n}": auroc_between(found, p, n) for p, n in pairs}
    return LabelledResults(
        auroc=with_intervals(measures, found.patients) if measures else {},
        operating_points=points,
        own_thresholds=estimate(single, single.definite),
        rules=rules,
        estimated=cross_validated(
            found, lambda part: {rule.label: rule.threshold for rule in fit_local_rule(part)}
        ),
    )


def _missing_patients(found: SitePredictions, label: str) -> str:
    """What a threshold for the sensitivity of a class lacks; empty where nothing."""
    own = int((found.truth == label).sum())
    others = len(found.truth) - own
    if own >= LEAST_PATIENTS and others >= LEAST_PATIENTS:
        return ""
    return (
        f"A threshold for the sensitivity of {label_name(label)} needs {LEAST_PATIENTS} patients "
        f"with it and {LEAST_PATIENTS} without. There are {own} and {others}."
    )


def _operating_point(
    found: SitePredictions, label: str, options: ValidationOptions
) -> OperatingPoint:
    score = found.probabilities[:, found.labels.index(label)]
    has = found.truth == label
    named = np.zeros(len(has), np.bool_)
    for own in folds(len(has)):
        named[own] = score[own] >= _threshold_for(score[has & ~own], options.sensitivity)
    sensitivity = clopper_pearson(int(named[has].sum()), int(has.sum()))
    specificity = clopper_pearson(int((~named[~has]).sum()), int((~has).sum()))
    return OperatingPoint(
        label=label,
        threshold=_threshold_for(score[has], options.sensitivity),
        sensitivity=sensitivity,
        specificity=specificity,
        positive_predictive_value=_predictive(sensitivity, specificity, options.prevalence),
        negative_predictive_value=_predictive(specificity, sensitivity, 1 - options.prevalence),
    )


def _threshold_for(positive: Floats, sensitivity: float) -> float:
    """The highest threshold that names so many of the positive images."""
    ranked = np.sort(positive)[::-1]
    return float(ranked[min(len(ranked), int(np.ceil(sensitivity * len(ranked)))) - 1])


def _predictive(hits: Interval, spared: Interval, prevalence: float) -> Interval:
    """The share of the named that are of a class, by Bayes' rule.

    It grows with both, so the limits of both together bound it.
    """

    def value(hit: float, spare: float) -> float:
        named = hit * prevalence + (1 - spare) * (1 - prevalence)
        return hit * prevalence / named if named > 0 else float("nan")

    n = hits.n + spared.n
    low, high = value(hits.low, spared.low), value(hits.high, spared.high)
    return Interval(value(hits.value, spared.value), low, high, n)
