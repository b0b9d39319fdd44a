"""Evaluate a classifier on a set of images.

Metrics over mixed sources are optimistic, because the source of an image partly reveals its label.
So AUROC is also computed within single sources, where that knowledge does not help, and all metrics
on a source that was left out of training, where it misleads.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.classifier.card import ModelCard
from ml.classifier.predictor import UNCERTAIN, Prediction, Predictor, Reason
from ml.data.left_out import images_left_out, is_left_out, left_out_names
from ml.data.loading import ImageSet
from ml.data.manifest import ImageRecord, real_images
from ml.errors import BundleError, DataError
from ml.evaluation import metrics
from ml.evaluation.metrics import Floats, Interval, Ints
from ml.evaluation.results import (
    ClassMetrics,
    EvaluationMetrics,
    SelectiveMetrics,
    WithinSourceMetric,
)
from ml.progress import progress

# Two classes are compared within a source that has at least so many patients of each.
LEAST_PATIENTS_PER_SIDE = 5
BATCH = 64
PER_CLASS = ("precision", "recall", "f1", "auroc")
SELECTIVE = (
    "coverage",
    "accuracy_when_answering",
    "accuracy_when_uncertain",
    "out_of_distribution",
)


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of a classifier for N images of C classes, and the truth."""

    labels: tuple[str, ...]  # the C classes, in the order of their numbers
    truth: Ints  # (N,) class numbers
    probabilities: Floats  # (N, C)
    uncertain: NDArray[np.bool_]  # (N,) the decision is "uncertain"
    out_of_distribution: NDArray[np.bool_]  # (N,) and the reason is the OOD score
    patients: NDArray[np.str_]  # (N,)
    sources: NDArray[np.str_]  # (N,)


def evaluate(
    predictor: Predictor, images: ImageSet, *, least_patients: int = LEAST_PATIENTS_PER_SIDE
) -> EvaluationMetrics:
    """Evaluate a classifier on images that it was not trained on.

    Raises:
        DataError: there are no images.
    """
    return metrics_of(predict_images(predictor, images), least_patients=least_patients)


def predict_images(predictor: Predictor, images: ImageSet) -> Predictions:
    """Run a classifier on images.

    Raises:
        DataError: there are no images, or some of a class that the classifier does not know.
    """
    if not len(images):
        raise DataError(
            "The data set has no test image. About 15 % of the patients form the test split, so "
            "add images until it has some dozens of patients."
        )
    truth = images.numbers_in(predictor.card.labels)
    given: list[Prediction] = []
    with progress("predicting images", len(images)) as counter:
        for start in range(0, len(images), BATCH):
            given += predictor.predict_batch(images.images[start : start + BATCH])
            counter.advance(len(given) - counter.done)
    return Predictions(
        labels=tuple(predictor.card.labels),
        truth=truth,
        probabilities=np.array([list(answer.probabilities.values()) for answer in given]),
        uncertain=np.array([answer.decision == UNCERTAIN for answer in given]),
        out_of_distribution=np.array(
            [answer.reason is Reason.OUT_OF_DISTRIBUTION for answer in given]
        ),
        patients=images.patients,
        sources=images.sources,
    )


def metrics_of(
    predictions: Predictions, *, least_patients: int = LEAST_PATIENTS_PER_SIDE
) -> EvaluationMetrics:
    """Compute the metrics of predictions.

    Args:
        predictions: for images that the classifier was not trained on.
        least_patients: classes with fewer patients in a source are not compared there.
    """
    truth, probabilities = predictions.truth, predictions.probabilities
    with progress("computing intervals"):
        intervals = metrics.bootstrap_each(
            lambda images: _all_metrics(predictions, images), truth, predictions.patients
        )
    overall, selective = intervals[:3], intervals[-len(SELECTIVE) :]
    each_class = intervals[len(overall) : -len(SELECTIVE)]
    return EvaluationMetrics(
        images=len(truth),
        patients=len(set(predictions.patients.tolist())),
        accuracy=overall[0],
        macro_auroc=overall[1],
        calibration_error=overall[2].value,
        calibration_error_interval=overall[2],
        per_class=_by_label(predictions.labels, truth, each_class),
        confusion=_confusion(truth, probabilities).tolist(),
        within_source=within_source(
            predictions.labels,
            truth,
            probabilities,
            predictions.sources,
            predictions.patients,
            least_patients=least_patients,
        ),
        reliability=metrics.reliability(truth, probabilities),
        selective=SelectiveMetrics(**_with_intervals(SELECTIVE, selective)),
    )


def _all_metrics(predictions: Predictions, images: Ints) -> Floats:
    """All metrics of some of the images: overall, of each class, of the decision rule."""
    truth, probabilities = predictions.truth[images], predictions.probabilities[images]
    return np.concatenate(
        [
            _overall(truth, probabilities),
            _each_class(truth, probabilities).ravel(),
            _each_selective(
                truth == probabilities.argmax(axis=1),
                predictions.uncertain[images],
                predictions.out_of_distribution[images],
            ),
        ]
    )


def per_class_metrics(
    labels: Sequence[str], truth: Ints, probabilities: Floats, patients: NDArray[np.str_]
) -> dict[str, ClassMetrics]:
    """Precision, recall, F1 and one-against-rest AUROC of every class, with intervals."""

    def each_class(images: Ints) -> Floats:
        return _each_class(truth[images], probabilities[images]).ravel()

    return _by_label(labels, truth, metrics.bootstrap_each(each_class, truth, patients))


def roc_curves(predictions: Predictions) -> dict[str, list[tuple[float, float]]]:
    """The ROC curve of every class that has images and against which there are others."""
    curves = {
        label: metrics.roc_curve(predictions.truth == k, predictions.probabilities[:, k])
        for k, label in enumerate(predictions.labels)
    }
    return {label: curve for label, curve in curves.items() if curve}


def within_source(
    classes: Sequence[str],
    truth: Ints,
    probabilities: Floats,
    sources: NDArray[np.str_],
    patients: NDArray[np.str_],
    *,
    least_patients: int = LEAST_PATIENTS_PER_SIDE,
) -> list[WithinSourceMetric]:
    """AUROC of every pair of classes that one source has enough patients of."""
    rows = []
    for source in sorted(set(sources.tolist())):
        own = sources == source
        present = [
            k
            for k in range(len(classes))
            if len(set(patients[own & (truth == k)].tolist())) >= least_patients
        ]
        for positive, negative in combinations(present, 2):
            pair = own & np.isin(truth, (positive, negative))

            def area(
                labels: Ints, values: Floats, pair: tuple[int, int] = (positive, negative)
            ) -> float:
                return metrics.pairwise_auroc(labels, values, *pair)

            interval = metrics.bootstrap(area, truth[pair], probabilities[pair], patients[pair])
            rows.append(
                WithinSourceMetric(
                    source=source,
                    positive=classes[positive],
                    negative=classes[negative],
                    auroc=interval,
                )
            )
    return rows


def left_out_images(
    card: ModelCard, records: Sequence[ImageRecord], leave_out: str
) -> list[ImageRecord]:
    """All images of sites or sources that a classifier was trained without.

    Args:
        card: of the classifier.
        records: images of the data set.
        leave_out: names separated by commas: all that training left out, or some of them.

    Raises:
        BundleError: the card does not say that it was trained without them.
        DataError: the data set has no real image from them.
    """
    left_out = card.options.leave_out
    if not set(left_out_names(leave_out)) <= set(left_out_names(left_out)):
        trained = f"without {left_out}" if left_out else "on all sites"
        raise BundleError(
            f"Classifier {card.version} was trained {trained}, so {leave_out} is not unseen by it. "
            f"Give the bundle of xray train classifier --leave-out {leave_out}."
        )
    images = [image for image in real_images(records) if trained_without(card, image)]
    images = images_left_out(images, leave_out)
    if not images:
        known = ", ".join(sorted({record.site for record in records}))
        raise DataError(f"No image is from {leave_out!r}. The data set has the sites {known}.")
    return images


def trained_without(card: ModelCard, image: ImageRecord) -> bool:
    """Whether an image is of a site or source that a classifier was trained without."""
    leave_out = card.options.leave_out
    if card.format == 1:
        # Version 0.1.0 knew no sites, so only the source of that name was left out.
        return bool(image.source == leave_out)
    return is_left_out(image, leave_out)


def count_images(
    records: Sequence[ImageRecord], labels: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Images: source -> label -> count."""
    counts = Counter((record.source, record.label) for record in records)
    sources = sorted({source for source, _ in counts})
    return {source: {label: counts[source, label] for label in labels} for source in sources}


def _overall(truth: Ints, probabilities: Floats) -> Floats:
    """(3,): accuracy, macro AUROC, expected calibration error."""
    return np.array(
        [
            metrics.accuracy(truth, probabilities),
            metrics.macro_auroc(truth, probabilities),
            metrics.calibration_error(truth, probabilities),
        ]
    )


def _each_class(truth: Ints, probabilities: Floats) -> Floats:
    """(C, 4): precision, recall, F1 and one-against-rest AUROC."""
    classes = metrics.per_class(_confusion(truth, probabilities))
    areas = [metrics.auroc(truth == k, probabilities[:, k]) for k in range(probabilities.shape[1])]
    return np.array(
        [
            (one.precision, one.recall, one.f1, area)
            for one, area in zip(classes, areas, strict=True)
        ]
    )


def _each_selective(
    correct: NDArray[np.bool_], uncertain: NDArray[np.bool_], out_of_distribution: NDArray[np.bool_]
) -> Floats:
    """(4,) in the order of `SELECTIVE`."""

    def share(chosen: NDArray[np.bool_]) -> float:
        return float(correct[chosen].mean()) if chosen.any() else float("nan")

    return np.array(
        [(~uncertain).mean(), share(~uncertain), share(uncertain), out_of_distribution.mean()]
    )


def _confusion(truth: Ints, probabilities: Floats) -> Ints:
    return metrics.confusion_matrix(truth, probabilities.argmax(axis=1), probabilities.shape[1])


def _by_label(
    labels: Sequence[str], truth: Ints, intervals: Sequence[Interval]
) -> dict[str, ClassMetrics]:
    """Label -> metrics; `intervals` run over the classes and within one over `PER_CLASS`."""
    entries = {}
    for k, label in enumerate(labels):
        own = intervals[k * len(PER_CLASS) : (k + 1) * len(PER_CLASS)]
        support = int((truth == k).sum())
        entries[label] = ClassMetrics(**_with_intervals(PER_CLASS, own), support=support)
    return entries


def _with_intervals(names: Sequence[str], intervals: Sequence[Interval]) -> dict[str, Any]:
    """The values under their names, the intervals beside them."""
    named = dict(zip(names, intervals, strict=True))
    values = {name: interval.value for name, interval in named.items()}
    return values | {f"{name}_interval": interval for name, interval in named.items()}
