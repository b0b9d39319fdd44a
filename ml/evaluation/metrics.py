"""Metrics of a classifier as pure functions of labels and probabilities.

Shapes: `truth` (N,) class numbers, `probabilities` (N, C) rows that sum to 1, `groups` (N,) any
key of the unit that is drawn in a bootstrap: the patient, since two images of one patient are not
two observations.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.json_model import JsonFloat

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BOOTSTRAP_DRAWS = 1000
BOOTSTRAP_SEED = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """A metric with its 95 % bootstrap interval and the number of images behind it."""

    value: JsonFloat
    low: JsonFloat
    high: JsonFloat
    n: int


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """(N, C) logits -> (N, C) probabilities of `logits / temperature`."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    exponential = np.exp(scaled)
    probabilities: Floats = exponential / exponential.sum(axis=1, keepdims=True)
    return probabilities


def accuracy(truth: Ints, probabilities: Floats) -> float:
    """Share of images whose most probable class is the true one."""
    return float((probabilities.argmax(axis=1) == truth).mean())


def log_loss(truth: Ints, probabilities: Floats) -> float:
    """Mean negative log probability of the true class, in nats."""
    own = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(own, 1e-12, 1.0)).mean())


def auroc(positive: NDArray[np.bool_], score: Floats) -> float:
    """Area under the ROC curve: the chance that a positive image outscores a negative one.

    Ties count half (Hanley and McNeil, 1982). NaN where one of the two sides is empty.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mid_rank = last - (counts - 1) / 2
    rank_sum = mid_rank[inverse][positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def roc_curve(positive: NDArray[np.bool_], score: Floats) -> list[tuple[float, float]]:
    """Corners of the ROC curve: (share of negatives named, share of positives named).

    From (0, 0) to (1, 1), one point per threshold, without those on a straight line between their
    neighbours; images of one score move together, so the area beneath is that of `auroc`. Empty
    where one of the two sides is empty.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return []
    order = np.argsort(-score, kind="stable")
    last_of_score = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.append(0, np.cumsum(positive[order])[last_of_score])
    alarms = np.append(0, last_of_score + 1) - hits
    # Two steps of the same direction: the point between them bends nothing.
    turn = np.diff(alarms)[:-1] * np.diff(hits)[1:] != np.diff(hits)[:-1] * np.diff(alarms)[1:]
    corner = np.concatenate([[True], turn, [True]])
    return [
        (float(x), float(y))
        for x, y in zip(alarms[corner] / negatives, hits[corner] / positives, strict=True)
    ]


def macro_auroc(truth: Ints, probabilities: Floats) -> float:
    """Mean over the classes of the one-against-rest AUROC; classes without images are left out."""
    areas = [auroc(truth == k, probabilities[:, k]) for k in range(probabilities.shape[1])]
    present = [area for area in areas if not np.isnan(area)]
    return float(np.mean(present)) if present else float("nan")


def pairwise_auroc(truth: Ints, probabilities: Floats, positive: int, negative: int) -> float:
    """AUROC of one class against one other, by their relative probability.

    Images of all other classes are left out, and so is the probability given to those classes.
    """
    keep = (truth == positive) | (truth == negative)
    pair = probabilities[keep][:, [positive, negative]]
    share = pair[:, 0] / np.clip(pair.sum(axis=1), 1e-12, None)
    return auroc(truth[keep] == positive, share)


def confusion_matrix(truth: Ints, predicted: Ints, classes: int) -> Ints:
    """(C, C) counts: row is the true class, column the predicted one."""
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Precision, recall (sensitivity) and F1 of one class; NaN where undefined."""

    precision: float
    recall: float
    f1: float
    support: int


def per_class(confusion: Ints) -> list[ClassScores]:
    """Precision, recall and F1 of every class of a confusion matrix."""
    metrics = []
    for k in range(len(confusion)):
        hits, support, named = confusion[k, k], confusion[k].sum(), confusion[:, k].sum()
        with np.errstate(invalid="ignore"):
            precision, recall = np.float64(hits) / named, np.float64(hits) / support
            f1 = 2 * np.float64(hits) / (named + support)
        metrics.append(ClassScores(float(precision), float(recall), float(f1), int(support)))
    return metrics


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Images whose confidence fell into one bin of a reliability diagram.

    Attributes:
        accuracy: share of them that was classified correctly.
    """

    confidence: JsonFloat
    accuracy: JsonFloat
    count: int


def reliability(truth: Ints, probabilities: Floats, bins: int = 10) -> list[ReliabilityBin]:
    """Mean confidence against accuracy in equal-width bins; empty bins are left out."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        ReliabilityBin(float(confidence[own].mean()), float(correct[own].mean()), int(own.sum()))
        for own in (place == index for index in range(bins))
        if own.any()
    ]


def calibration_error(truth: Ints, probabilities: Floats, bins: int = 10) -> float:
    """Expected calibration error: mean gap of confidence and accuracy (Guo et al., 2017)."""
    diagram = reliability(truth, probabilities, bins)
    gaps = [abs(part.confidence - part.accuracy) * part.count for part in diagram]
    return float(sum(gaps) / len(truth))


def bootstrap(
    metric: Callable[[Ints, Floats], float],
    truth: Ints,
    probabilities: Floats,
    groups: NDArray[np.str_],
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> Interval:
    """A metric with its 95 % percentile interval over resampled patients.

    Whole patients are drawn with replacement. Draws that lack a class, and with it a part of the
    metric, are left out.
    """

    def alone(images: Ints) -> Floats:
        return np.array([metric(truth[images], probabilities[images])])

    return bootstrap_each(alone, truth, groups, draws=draws, seed=seed)[0]


def bootstrap_each(
    metrics: Callable[[Ints], Floats],
    truth: Ints,
    groups: NDArray[np.str_],
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> list[Interval]:
    """Several metrics with their intervals from the same draws, which is cheaper than one by one.

    Args:
        metrics: positions of images, some of them several times -> (K,) metrics; NaN where a
            metric is not defined, which leaves the draw out for that metric alone.
        truth: (N,) class numbers; draws that lack a class are left out.
        groups: (N,) the unit that is drawn.
        draws: how often patients are drawn.
        seed: of the draws.
    """
    values = metrics(np.arange(len(truth)))
    classes = len(np.unique(truth))
    _, patient = np.unique(groups, return_inverse=True)
    images_of = np.split(np.argsort(patient, kind="stable"), np.cumsum(np.bincount(patient))[:-1])
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        chosen = random.integers(len(images_of), size=len(images_of))
        images = np.concatenate([images_of[index] for index in chosen])
        if len(np.unique(truth[images])) < classes:
            continue
        drawn.append(metrics(images))
    columns = np.array(drawn).reshape(len(drawn), len(values)).T
    return [
        _percentile_interval(float(value), column, len(truth))
        for value, column in zip(values, columns, strict=True)
    ]


def _percentile_interval(value: float, drawn: Floats, n: int) -> Interval:
    defined = drawn[~np.isnan(drawn)]
    if len(defined) == 0:
        return Interval(value, float("nan"), float("nan"), n)
    low, high = np.percentile(defined, (2.5, 97.5))
    return Interval(value, float(low), float(high), n)
