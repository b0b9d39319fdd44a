"""A predictor and a set of films give figures that a sceptic can use.

Overall figures of mixed sources flatter: the source of a film gives its label away. So every
figure is also given within single sources, where that knowledge is worth nothing.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml import metrics
from ml.errors import DataError
from ml.filmset import FilmSet
from ml.labels import LABELS
from ml.metrics import Floats, Interval, Ints
from ml.predictor import UNCERTAIN, Predictor, Reason

# Fewer patients than this on either side say nothing about a source.
LEAST_PATIENTS_PER_SIDE = 5
BATCH = 64


@dataclass(frozen=True, slots=True)
class Figures:
    """The evaluation of one classifier on one set of films; intervals are 95 %."""

    films: int
    patients: int
    accuracy: Interval
    macro_auroc: Interval
    calibration_error: float
    per_class: dict[str, dict[str, float]]
    confusion: list[list[int]]  # rows true, columns predicted, in the order of the labels
    within_source: list[dict[str, Any]]  # one class against one other inside one source
    reliability: list[dict[str, float]]
    selective: dict[str, Any]  # what the decision rule does: coverage and accuracy when answering


def evaluate(predictor: Predictor, films: FilmSet) -> Figures:
    """Measure a classifier on films it has not learned from.

    Raises:
        DataError: there are no films.
    """
    if not len(films):
        raise DataError(
            "there is no film to measure on: about 15 % of the patients make the test split, "
            "so a data set needs some dozens"
        )
    answers = [
        answer
        for start in range(0, len(films), BATCH)
        for answer in predictor.predict_batch(films.films[start : start + BATCH])
    ]
    probabilities = np.array([list(answer.probabilities.values()) for answer in answers])
    truth, patients = films.labels, films.patients
    confusion = metrics.confusion_matrix(truth, probabilities.argmax(axis=1), len(LABELS))
    return Figures(
        films=len(films),
        patients=len(set(patients.tolist())),
        accuracy=metrics.bootstrap(metrics.accuracy, truth, probabilities, patients),
        macro_auroc=metrics.bootstrap(metrics.macro_auroc, truth, probabilities, patients),
        calibration_error=metrics.calibration_error(truth, probabilities),
        per_class={
            label: {
                "precision": one.precision,
                "recall": one.recall,
                "f1": one.f1,
                "support": one.support,
            }
            for label, one in zip(LABELS, metrics.per_class(confusion), strict=True)
        },
        confusion=confusion.tolist(),
        within_source=within_source(truth, probabilities, films.sources, patients),
        reliability=[
            {"confidence": part.confidence, "accuracy": part.accuracy, "count": part.count}
            for part in metrics.reliability(truth, probabilities)
        ],
        selective=_selective(
            truth == probabilities.argmax(axis=1),
            np.array([answer.decision == UNCERTAIN for answer in answers]),
            np.array([answer.reason is Reason.UNFAMILIAR_FILM for answer in answers]),
        ),
    )


def within_source(
    truth: Ints, probabilities: Floats, sources: NDArray[np.str_], patients: NDArray[np.str_]
) -> list[dict[str, Any]]:
    """AUROC of every pair of classes that one source has enough patients of."""
    rows = []
    for source in sorted(set(sources.tolist())):
        own = sources == source
        present = [
            k
            for k in range(len(LABELS))
            if len(set(patients[own & (truth == k)].tolist())) >= LEAST_PATIENTS_PER_SIDE
        ]
        for positive, negative in combinations(present, 2):
            pair = own & np.isin(truth, (positive, negative))

            def area(
                labels: Ints, values: Floats, pair: tuple[int, int] = (positive, negative)
            ) -> float:
                return metrics.pairwise_auroc(labels, values, *pair)

            interval = metrics.bootstrap(area, truth[pair], probabilities[pair], patients[pair])
            rows.append(
                {
                    "source": source,
                    "positive": LABELS[positive],
                    "negative": LABELS[negative],
                    "auroc": interval,
                }
            )
    return rows


def _selective(
    correct: NDArray[np.bool_], uncertain: NDArray[np.bool_], unfamiliar: NDArray[np.bool_]
) -> dict[str, float]:
    def share(chosen: NDArray[np.bool_]) -> float:
        return float(correct[chosen].mean()) if chosen.any() else float("nan")

    return {
        "coverage": float((~uncertain).mean()),
        "accuracy_when_answering": share(~uncertain),
        "accuracy_when_uncertain": share(uncertain),
        "unfamiliar": float(unfamiliar.mean()),
    }
