"""Two classifiers on the same test images: may the one go active in place of the other?

Both answer the same images, so their difference is far surer than the intervals of each by itself:
patients are drawn once for both (a paired bootstrap). What promotion checks asks is modest: that
the candidate
is not worse beyond doubt, and that it reproduces what its own card says of it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ml.classifier.bundle import Card
from ml.classifier.predictor import UNCERTAIN, Predictor
from ml.data.loading import load_images
from ml.data.manifest import ImageRecord, in_split, read_manifest, real_images
from ml.data.splits import Split
from ml.errors import BundleError
from ml.evaluation import metrics
from ml.evaluation.evaluate import (
    Answers,
    answer_images,
    count_images,
    learned_nothing_from,
    metrics_of,
)
from ml.evaluation.metrics import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, Floats, Interval, Ints
from ml.files import write_whole
from ml.json_model import finite
from ml.labels import label_name

COMPARISON = "comparison.json"
# More than the rounding of another processor moves an AUROC, less than one image of thousands does.
CARD_TOLERANCE = 1e-4
NAMES = {"accuracy": "accuracy", "macro_auroc": "macro AUROC"}


def compare_classifiers(candidate: Predictor, reference: Predictor, data: Path) -> dict[str, Any]:
    """Measure two classifiers on the test images of a data set and say whether the promotion
    checks open.

    Args:
        candidate: the classifier that may go active.
        reference: the one to compare it with.
        data: the data set's folder; synthetic images measure nothing.

    Returns:
        JSON values for `write_comparison`: of both classifiers `sha256`, `version` and `metrics`;
        `differences` (candidate less reference) with 95 % intervals; `changed`, the images that
        they label or decide differently; whether the card is reproduced (`card_reproduced`, None
        where the images are not those of the card) and `card_faults`; `passed` and `faults`.

    Raises:
        BundleError: the two do not have the same classes.
        DataError: the data set has no test image, or one cannot be read, or one is of a class that
            the classifiers do not know.
    """
    if fault := labels_differ(candidate.card, reference.card):
        raise BundleError(fault)
    images = in_split(real_images(read_manifest(data)), Split.TEST)
    sizes = {one.card.input_size for one in (candidate, reference)}
    labels = candidate.card.labels
    sets = {
        size: load_images(images, size, title="reading test images", classes=labels)
        for size in sorted(sizes)
    }
    ours, theirs = (answer_images(one, sets[one.card.input_size]) for one in (candidate, reference))
    differences = paired_differences(ours, theirs)
    reproduced, card_faults = check_card(candidate.card, images, ours)
    faults = [*worse_metrics(differences, candidate.card, reference.card), *card_faults]
    comparison: dict[str, Any] = finite(
        {
            "candidate": _about(candidate.card, ours),
            "reference": _about(reference.card, theirs),
            "images": len(images),
            "patients": len({image.patient for image in images}),
            "data": count_images(images, labels),
            "draws": BOOTSTRAP_DRAWS,
            "seed": BOOTSTRAP_SEED,
            "differences": {name: asdict(one) for name, one in differences.items()},
            "card_reproduced": reproduced,
            "card_faults": card_faults,
            "passed": not faults,
            "faults": faults,
            "changed": _changed(images, data, ours, theirs),
        }
    )
    return comparison


def labels_differ(candidate: Card, reference: Card) -> str:
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


def write_comparison(out: Path, comparison: dict[str, Any]) -> None:
    """Write `comparison.json`; the folder is made where it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / COMPARISON, json.dumps(comparison, indent=2, allow_nan=False) + "\n")


def check_card(
    card: Card, images: Sequence[ImageRecord], answers: Answers
) -> tuple[bool | None, list[str]]:
    """Whether a classifier reaches the metrics that its card gives it.

    Args:
        card: of the classifier.
        images: the test images of a data set.
        answers: the classifier's to these images.

    Returns:
        True or False with what differs, a sentence each. None where the card's metrics are of other
        images: then nothing can be said, which is no fault.
    """
    # A source that was kept from training is in no metric of the card.
    own = np.array([not learned_nothing_from(card, image) for image in images])
    measured = [image for image, is_own in zip(images, own, strict=True) if is_own]
    patients = len({image.patient for image in measured})
    data = card.data
    told = data.get("by_source", {}).get("test"), data.get("patients", {}).get("test")
    if (count_images(measured, card.labels), patients) != told:
        return None, []
    found = _card_metrics(card.labels, answers.truth[own], answers.probabilities[own])
    given = _given_metrics(card)
    faults = [
        f"the card gives the {name} as {_six(given[name])}, on the card's own test images it is "
        f"{_six(value)}"
        for name, value in found.items()
        if not _is_same(value, given[name])
    ]
    return not faults, faults


def _card_metrics(labels: Sequence[str], truth: Ints, probabilities: Floats) -> dict[str, float]:
    confusion = metrics.confusion_matrix(truth, probabilities.argmax(axis=1), len(labels))
    recalls = [one.recall for one in metrics.per_class(confusion)]
    return {
        "accuracy": metrics.accuracy(truth, probabilities),
        "macro AUROC": metrics.macro_auroc(truth, probabilities),
        **{f"recall of {label}": value for label, value in zip(labels, recalls, strict=True)},
    }


def _given_metrics(card: Card) -> dict[str, float | None]:
    """What a card says of the same metrics; None where it is silent, or has JSON's null."""
    scores = card.metrics
    per_class = scores.get("per_class", {})
    return {
        "accuracy": scores.get("accuracy", {}).get("value"),
        "macro AUROC": scores.get("macro_auroc", {}).get("value"),
        **{f"recall of {label}": per_class.get(label, {}).get("recall") for label in card.labels},
    }


def _is_same(found: float, given: float | None) -> bool:
    if given is None or np.isnan(found):
        return given is None and bool(np.isnan(found))
    return abs(found - given) <= CARD_TOLERANCE


def _six(value: float | None) -> str:
    return "not defined" if value is None or np.isnan(value) else f"{value:.6f}"


def paired_differences(ours: Answers, theirs: Answers) -> dict[str, Interval]:
    """Accuracy and macro AUROC of one classifier less those of another on the same images.

    Patients are drawn once for both.
    """

    def less(images: Ints) -> Floats:
        truth = ours.truth[images]
        return np.array(
            [
                metric(truth, ours.probabilities[images])
                - metric(truth, theirs.probabilities[images])
                for metric in (metrics.accuracy, metrics.macro_auroc)
            ]
        )

    found = metrics.bootstrap_each(less, ours.truth, ours.patients)
    return dict(zip(NAMES, found, strict=True))


def worse_metrics(differences: dict[str, Interval], candidate: Card, reference: Card) -> list[str]:
    """A sentence for every metric in which the candidate is worse beyond its interval."""
    return [
        f"classifier {candidate.version} is worse than {reference.version}: its {NAMES[name]} is "
        f"lower by {-one.value:.3f} (95 % interval {-one.high:.3f} to {-one.low:.3f})"
        for name, one in differences.items()
        if one.high < 0
    ]


def _changed(
    images: Sequence[ImageRecord], root: Path, ours: Answers, theirs: Answers
) -> list[dict[str, Any]]:
    """The images that the two label or decide differently, in the order of the manifest."""
    pairs = zip(images, _decisions(ours), _decisions(theirs), strict=True)
    return [
        {
            "image": image.path.relative_to(root).as_posix(),
            "source": image.source,
            "label": image.label,
            "candidate": one,
            "reference": other,
        }
        for image, one, other in pairs
        if (one["label"], one["decision"]) != (other["label"], other["decision"])
    ]


def _decisions(answers: Answers) -> list[dict[str, Any]]:
    """Of each image the most probable class, its probability, and what the decision rule says."""
    best = answers.probabilities.argmax(axis=1)
    return [
        {
            "label": answers.labels[k],
            "decision": UNCERTAIN if uncertain else answers.labels[k],
            "probability": float(row[k]),
        }
        for k, uncertain, row in zip(best, answers.uncertain, answers.probabilities, strict=True)
    ]


def _about(card: Card, answers: Answers) -> dict[str, Any]:
    scores = asdict(metrics_of(answers))
    return {"sha256": card.sha256, "version": card.version, "metrics": scores}
