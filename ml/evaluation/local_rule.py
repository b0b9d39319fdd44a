"""Thresholds of a clinic, fitted on its own labelled images with exact limits.

A class is answered where its clinic's images prove the bounds, and never elsewhere. Tested are few
thresholds, which depend on the predictions and not on the labels. Each is an intersection of tests,
so none has to be corrected for the others of its threshold: that of wrong predictions is corrected
for the thresholds tried (Bonferroni); that of the target disease is tried from the strictest
threshold on and stops at the first failure, which needs no correction (fixed-sequence testing:
Angelopoulos et al., "Learn then Test", 2021).
"""

from collections.abc import Callable

import numpy as np

from ml.classifier.calibration import NEVER, confidence_threshold
from ml.evaluation.binomial import CONFIDENCE, clopper_pearson, images_needed, upper_limit
from ml.evaluation.leave_site_out import HEALTHY, TARGET
from ml.evaluation.metrics import Floats, Interval, Ints
from ml.evaluation.site_statistics import Flags, SitePredictions
from ml.json_model import JsonFloat, JsonModel

# Bounds at the clinic.
MOST_WRONG = 0.05  # of the definite predictions of each class
MOST_CALLED_TARGET = 0.02  # of the healthy images, called the target disease
# Shares of the predictions of a class that are kept, from the most confident; one threshold each.
KEPT = (0.25, 0.5, 0.75, 1.0)
_WRONG_CONFIDENCE = 1 - (1 - CONFIDENCE) / len(KEPT)
LEAST_DEFINITE = images_needed(MOST_WRONG, _WRONG_CONFIDENCE)
LEAST_HEALTHY = images_needed(MOST_CALLED_TARGET)
FOLDS = 5


class ClassRule(JsonModel):
    """The threshold of one class and what it rests on.

    Attributes:
        threshold: least probability of a definite prediction; above 1 for never.
        definite: images with a definite prediction of the class, one for each patient.
        wrong: of these.
        wrong_at_most: upper limit of the share of wrong ones; NaN where there is no image.
        healthy_called: healthy images called the class, where it is the target disease.
        healthy_called_at_most: upper limit of their share.
        why_never: why the class is never answered; empty where it is.
    """

    label: str
    threshold: JsonFloat
    definite: int
    wrong: int
    wrong_at_most: JsonFloat
    healthy_called: int | None
    healthy_called_at_most: JsonFloat | None
    why_never: str


class RuleEstimate(JsonModel):
    """What thresholds give on images that they were not fitted on.

    Attributes:
        answered: share of images with a definite prediction.
        right: share of these that are right.
        healthy_called_target: share of healthy images called the target disease.
    """

    answered: Interval
    right: Interval
    healthy_called_target: Interval


def one_per_patient(found: SitePredictions) -> SitePredictions:
    """The first image of each patient: the limits are those of independent images."""
    _, first = np.unique(found.patients, return_index=True)
    chosen = np.zeros(len(found.patients), np.bool_)
    chosen[first] = True
    return found.where(chosen)


def fit_local_rule(
    found: SitePredictions, *, target: str = TARGET, healthy: str = HEALTHY
) -> list[ClassRule]:
    """The lowest threshold of each class at which the clinic's images prove the bounds.

    Args:
        found: labelled images of one clinic; a label that is no class is another finding, and every
            definite prediction of it is wrong.
        target: the disease that healthy people must not be called; may be no class.
        healthy: the class without a finding.
    """
    found = one_per_patient(found)
    return [
        _fit_class(found, label, target=label == target, healthy=healthy) for label in found.labels
    ]


def _fit_class(found: SitePredictions, label: str, *, target: bool, healthy: str) -> ClassRule:
    confidence = found.probabilities.max(axis=1)
    named = found.predicted == label
    is_healthy = found.truth == healthy
    best: ClassRule | None = None
    can_lower = True
    for level in _levels(confidence[named]):
        definite = named & (confidence >= level)
        rule = _class_rule(found, label, level, definite, is_healthy if target else None)
        called = rule.healthy_called_at_most
        # A class that is no target has no such bound.
        can_lower = can_lower and (called is None or called <= MOST_CALLED_TARGET)
        if can_lower and rule.wrong_at_most <= MOST_WRONG:
            best = rule
    if best is not None:
        return best
    nothing = np.zeros_like(named)
    never = _class_rule(found, label, NEVER, nothing, is_healthy if target else None)
    why = _why_never(named, is_healthy if target else None)
    return never.model_copy(update={"why_never": why})


def _levels(confidence: Floats) -> Floats:
    """The thresholds that are tried, from the strictest."""
    if not len(confidence):
        return np.empty(0)
    ranked = np.sort(confidence)[::-1]
    places = [max(1, round(share * len(ranked))) - 1 for share in KEPT]
    return ranked[places]


def _class_rule(
    found: SitePredictions, label: str, level: float, definite: Flags, healthy: Flags | None
) -> ClassRule:
    images, wrong = int(definite.sum()), int((definite & (found.truth != label)).sum())
    called = None if healthy is None else int((definite & healthy).sum())
    limit = None
    if healthy is not None:
        limit = upper_limit(int(called or 0), max(1, int(healthy.sum())))
    at_most = upper_limit(wrong, images, _WRONG_CONFIDENCE) if images else float("nan")
    return ClassRule(
        label=label,
        threshold=float(level),
        definite=images,
        wrong=wrong,
        wrong_at_most=at_most,
        healthy_called=called,
        healthy_called_at_most=limit,
        why_never="",
    )


def _why_never(named: Flags, healthy: Flags | None) -> str:
    reasons = list[str]()
    if (images := int(named.sum())) < LEAST_DEFINITE:
        reasons.append(
            f"It is the most probable class of {images} patients. At least {LEAST_DEFINITE} are "
            "needed, none of them wrong."
        )
    if healthy is not None and (patients := int(healthy.sum())) < LEAST_HEALTHY:
        reasons.append(
            f"There are {patients} healthy patients. At least {LEAST_HEALTHY} are needed, none of "
            "them called this class."
        )
    return " ".join(reasons) or "At no threshold do the images prove the bounds."


def fit_plain_rule(
    found: SitePredictions, *, target: str = TARGET, healthy: str = HEALTHY
) -> dict[str, float]:
    """The lowest thresholds at which the bounds hold on these images, without any limit.

    What a clinic gets that takes its few images at their word; for comparison.
    """
    confidence, predicted = found.probabilities.max(axis=1), found.predicted
    right = (found.truth == predicted).astype(np.int64)
    by_label = {}
    for label in found.labels:
        named = predicted == label
        # As a classifier of two classes, "right" is the most confident one, or it is wrong.
        pairs = np.stack([np.zeros(int(named.sum())), confidence[named]], axis=1)
        level = confidence_threshold(right[named], pairs, 1 - MOST_WRONG) if named.any() else NEVER
        of_healthy = np.sort(confidence[named & (found.truth == healthy)])[::-1]
        spared = int(MOST_CALLED_TARGET * (found.truth == healthy).sum())
        if label == target and len(of_healthy) > spared:
            level = max(level, float(np.nextafter(of_healthy[spared], 2.0)))
        by_label[label] = NEVER if level >= 1 else level
    return by_label


def is_definite(found: SitePredictions, by_label: dict[str, float]) -> Flags:
    """(N,) which images get a definite prediction by thresholds for each class."""
    least = np.array([by_label[label] for label in found.labels])
    best = found.probabilities.argmax(axis=1)
    flags: Flags = found.probabilities.max(axis=1) >= least[best]
    return flags


def estimate(
    found: SitePredictions, definite: Flags, *, target: str = TARGET, healthy: str = HEALTHY
) -> RuleEstimate:
    """How good definite predictions are; the limits are those of independent images."""
    right = definite & (found.truth == found.predicted)
    is_healthy = found.truth == healthy
    called = definite & is_healthy & (found.predicted == target)
    answered = int(definite.sum())
    return RuleEstimate(
        answered=clopper_pearson(answered, len(definite)),
        right=clopper_pearson(int(right.sum()), answered),
        healthy_called_target=clopper_pearson(int(called.sum()), int(is_healthy.sum())),
    )


def cross_validated(
    found: SitePredictions,
    fit: Callable[[SitePredictions], dict[str, float]],
    *,
    target: str = TARGET,
    healthy: str = HEALTHY,
) -> RuleEstimate:
    """What a way of fitting gives: each fold of patients by thresholds of the other folds.

    A fit on four fifths of the images proves less than one on all, so it answers less.
    """
    found = one_per_patient(found)
    definite = np.zeros(len(found.truth), np.bool_)
    for own in folds(len(found.truth)):
        definite[own] = is_definite(found, fit(found.where(~own)))[own]
    return estimate(found, definite, target=target, healthy=healthy)


def folds(images: int) -> list[Flags]:
    """Random parts of images of different patients, each as (N,) flags."""
    numbers: Ints = np.random.default_rng(0).permutation(images) % FOLDS
    return [numbers == k for k in range(FOLDS) if (numbers == k).any()]
