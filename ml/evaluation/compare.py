"""Compare two classifiers on the same test images: may the candidate replace the reference?

Both predict the same images, so their difference is known far more precisely than either metric
alone: the bootstrap draws the same patients for both. A candidate passes unless it is significantly
worse, or does not reach the metrics of its card.
"""

from collections.abc import Sequence
from math import isnan
from pathlib import Path

import numpy as np

from ml.classifier.card import ModelCard
from ml.classifier.predictor import UNCERTAIN, Predictor
from ml.data.loading import load_images
from ml.data.manifest import ImageRecord, in_split, read_manifest, real_images
from ml.data.splits import Split
from ml.errors import BundleError
from ml.evaluation import metrics
from ml.evaluation.comparison_report import (
    COMPARISON,
    ChangedPrediction,
    ComparedClassifier,
    ComparisonReport,
    ImagePrediction,
    MetricDifferences,
)
from ml.evaluation.evaluate import (
    Predictions,
    count_images,
    metrics_of,
    predict_images,
    trained_without,
)
from ml.evaluation.metrics import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, Floats, Ints
from ml.files import write_whole
from ml.labels import label_name

# Rounding on another processor moves an AUROC by less; one image of thousands moves it by more.
CARD_TOLERANCE = 1e-4
METRIC_NAMES = {"accuracy": "accuracy", "macro_auroc": "macro AUROC"}


def compare_classifiers(candidate: Predictor, reference: Predictor, data: Path) -> ComparisonReport:
    """Evaluate two classifiers on the test images of a data set.

    Args:
        candidate: the classifier that may be activated.
        reference: the one to compare it with.
        data: the data set's folder; synthetic images are left out.

    Raises:
        BundleError: the two do not have the same classes.
        DataError: the data set has no test image, one cannot be read, or one is of a class that
            the classifiers do not have.
    """
    if fault := labels_differ(candidate.card, reference.card):
        raise BundleError(fault)
    images = in_split(real_images(read_manifest(data)), Split.TEST)
    labels = candidate.card.labels
    sizes = {one.card.input_size for one in (candidate, reference)}
    sets = {
        size: load_images(images, size, title="reading test images", classes=labels)
        for size in sorted(sizes)
    }
    ours, theirs = (
        predict_images(one, sets[one.card.input_size]) for one in (candidate, reference)
    )
    differences = paired_differences(ours, theirs)
    reproduced, card_faults = check_card(candidate.card, images, ours)
    faults = [*worse_metrics(differences, candidate.card, reference.card), *card_faults]
    return ComparisonReport(
        candidate=_compared(candidate.card, ours),
        reference=_compared(reference.card, theirs),
        images=len(images),
        patients=len({image.patient for image in images}),
        data=count_images(images, labels),
        draws=BOOTSTRAP_DRAWS,
        seed=BOOTSTRAP_SEED,
        differences=differences,
        card_reproduced=reproduced,
        card_faults=card_faults,
        passed=not faults,
        faults=faults,
        changed=_changed(images, data, ours, theirs),
    )


def labels_differ(candidate: ModelCard, reference: ModelCard) -> str:
    """Why two classifiers cannot be compared by their classes; empty where they can."""
    if candidate.labels == reference.labels:
        return ""
    ours, theirs = (
        ", ".join(label_name(label) for label in card.labels) for card in (candidate, reference)
    )
    return (
        f"classifier {candidate.version} predicts {ours}, and {reference.version} predicts "
        f"{theirs}. Only classifiers of the same classes can be compared"
    )


def write_classifier_comparison(out: Path, comparison: ComparisonReport) -> None:
    """Write `comparison.json`; the folder is made where it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / COMPARISON, comparison.to_json())


def check_card(
    card: ModelCard, images: Sequence[ImageRecord], predictions: Predictions
) -> tuple[bool | None, list[str]]:
    """Check that a classifier reaches the metrics of its card.

    Args:
        card: of the classifier.
        images: the test images of a data set.
        predictions: of the classifier, for these images.

    Returns:
        True or False with a sentence for each metric that differs. None where the card was
        measured on other images, so that nothing can be said; that is not a fault.
    """
    # The card has no metric of sites and sources that were left out of training.
    own = np.array([not trained_without(card, image) for image in images])
    measured = [image for image, is_own in zip(images, own, strict=True) if is_own]
    counts = count_images(measured, card.labels), len({image.patient for image in measured})
    if counts != (card.data.by_source.get("test"), card.data.patients.get("test")):
        return None, []
    found = _card_metrics(card.labels, predictions.truth[own], predictions.probabilities[own])
    stated = _stated_metrics(card)
    faults = [
        f"Its card states {_six(stated[name])} for {name}, and it reaches {_six(value)} on the "
        "test images of the card."
        for name, value in found.items()
        if not _is_same(value, stated[name])
    ]
    return not faults, faults


def _card_metrics(labels: Sequence[str], truth: Ints, probabilities: Floats) -> dict[str, float]:
    confusion = metrics.confusion_matrix(truth, probabilities.argmax(axis=1), len(labels))
    recalls = [one.recall for one in metrics.per_class(confusion)]
    return {
        "the accuracy": metrics.accuracy(truth, probabilities),
        "the macro AUROC": metrics.macro_auroc(truth, probabilities),
        **{f"the recall of {label}": value for label, value in zip(labels, recalls, strict=True)},
    }


def _stated_metrics(card: ModelCard) -> dict[str, float]:
    """The same metrics by the card; NaN where the card has none."""
    stated = card.metrics
    recalls = {label: own.recall for label, own in stated.per_class.items()}
    return {
        "the accuracy": stated.accuracy.value,
        "the macro AUROC": stated.macro_auroc.value,
        **{f"the recall of {label}": recalls.get(label, float("nan")) for label in card.labels},
    }


def _is_same(found: float, stated: float) -> bool:
    if isnan(found) or isnan(stated):
        return isnan(found) and isnan(stated)
    return abs(found - stated) <= CARD_TOLERANCE


def _six(value: float) -> str:
    return "no value" if isnan(value) else f"{value:.6f}"


def paired_differences(ours: Predictions, theirs: Predictions) -> MetricDifferences:
    """Accuracy and macro AUROC of one classifier minus those of another on the same images.

    The bootstrap draws the same patients for both.
    """

    def difference(images: Ints) -> Floats:
        truth = ours.truth[images]
        return np.array(
            [
                metric(truth, ours.probabilities[images])
                - metric(truth, theirs.probabilities[images])
                for metric in (metrics.accuracy, metrics.macro_auroc)
            ]
        )

    accuracy, macro_auroc = metrics.bootstrap_each(difference, ours.truth, ours.patients)
    return MetricDifferences(accuracy=accuracy, macro_auroc=macro_auroc)


def worse_metrics(
    differences: MetricDifferences, candidate: ModelCard, reference: ModelCard
) -> list[str]:
    """A sentence for every metric in which the candidate is significantly worse."""
    named = {"accuracy": differences.accuracy, "macro AUROC": differences.macro_auroc}
    return [
        f"Classifier {candidate.version} is worse than {reference.version}: its {name} is "
        f"{-one.value:.3f} lower (95 % interval {-one.high:.3f} to {-one.low:.3f})."
        for name, one in named.items()
        if one.high < 0
    ]


def _changed(
    images: Sequence[ImageRecord], root: Path, ours: Predictions, theirs: Predictions
) -> list[ChangedPrediction]:
    """Images with another predicted class or decision, in the order of the manifest."""
    pairs = zip(images, _image_predictions(ours), _image_predictions(theirs), strict=True)
    return [
        ChangedPrediction(
            image=image.path.relative_to(root).as_posix(),
            source=image.source,
            label=image.label,
            candidate=one,
            reference=other,
        )
        for image, one, other in pairs
        if (one.label, one.decision) != (other.label, other.decision)
    ]


def _image_predictions(predictions: Predictions) -> list[ImagePrediction]:
    best = predictions.probabilities.argmax(axis=1)
    rows = zip(best, predictions.uncertain, predictions.probabilities, strict=True)
    return [
        ImagePrediction(
            label=predictions.labels[k],
            decision=UNCERTAIN if uncertain else predictions.labels[k],
            probability=float(row[k]),
        )
        for k, uncertain, row in rows
    ]


def _compared(card: ModelCard, predictions: Predictions) -> ComparedClassifier:
    return ComparedClassifier(
        sha256=card.sha256, version=card.version, metrics=metrics_of(predictions)
    )
