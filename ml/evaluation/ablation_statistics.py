"""Paired statistics of the ablation: does a condition differ from training on real images alone?"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.evaluation import metrics
from ml.evaluation.ablation_setting import REAL, SYNTHETIC, Question, class_counts
from ml.evaluation.metrics import BOOTSTRAP_SEED, Floats, Interval, Ints

FIGURES = {"accuracy": "accuracy", "macro_auroc": "macro AUROC"}
# Arm -> (S, N, C): the answers of each of its S trainings to N films.
ByArm = Mapping[str, Floats]


def measure_arms(truth: Ints, patients: NDArray[np.str_], by_arm: ByArm) -> dict[str, Any]:
    """Figures of every arm, and their differences to the arm of real films, with intervals.

    A figure is the mean over an arm's trainings. Each draw takes patients and trainings, the same
    ones for all arms. Of S trainings it takes S - 1: so few drawn S times would vary too little, by
    the factor (S - 1) / S (Rao and Wu, "Resampling inference with complex survey data", 1988). A
    single training says nothing of chance in training, so its interval is over patients alone.

    Args:
        truth: (N,) class numbers.
        patients: (N,) their keys.
        by_arm: arm -> (S, N, C) probabilities.

    Returns:
        Arm -> `accuracy`, `macro_auroc`, and `differences` with the same, None for real films.
    """
    seeds = len(by_arm[REAL])
    drawn = chain([np.arange(seeds)], _seed_draws(seeds))

    def figures(films: Ints) -> Floats:
        chosen = next(drawn)
        means = {
            arm: np.mean([_both(truth[films], of_arm[seed, films]) for seed in chosen], axis=0)
            for arm, of_arm in by_arm.items()
        }
        return np.concatenate([(means[arm], means[arm] - means[REAL]) for arm in by_arm]).ravel()

    intervals = iter(metrics.bootstrap_each(figures, truth, patients))
    measured = {}
    for arm in by_arm:
        own, less = ({name: next(intervals) for name in FIGURES} for _ in range(2))
        measured[arm] = own | {"differences": None if arm == REAL else less}
    return measured


def _both(truth: Ints, probabilities: Floats) -> tuple[float, float]:
    return metrics.accuracy(truth, probabilities), metrics.macro_auroc(truth, probabilities)


def _seed_draws(seeds: int) -> Iterator[Ints]:
    random = np.random.default_rng(BOOTSTRAP_SEED)
    while True:
        yield random.integers(seeds, size=max(1, seeds - 1))


def verdict(difference: Interval) -> str:
    """`helped`, `hurt`, or `made no difference`: only an interval wholly on one side tells."""
    if difference.low > 0:
        return "helped"
    return "hurt" if difference.high < 0 else "made no difference"


def sentence(arm: str, measured: Mapping[str, Any], question: Question, seeds: int) -> str:
    """What came of an arm beside real films alone, in one honest sentence.

    It goes by the macro AUROC, which no threshold enters; where the films are of one class, by the
    accuracy.
    """
    differences: Mapping[str, Interval] = measured["differences"]
    name = "accuracy" if np.isnan(differences["macro_auroc"].value) else "macro_auroc"
    less, films = differences[name], question.measured
    counts = class_counts(films, np.arange(len(films)))
    where = f"{counts['films']} films of {counts['patients']} patients"
    trained = f"{seeds} {'seed' if seeds == 1 else 'seeds'}"
    said = verdict(less)
    moved = (
        f"{FIGURES[name]} {less.value:+.3f} against real films alone, 95 % interval "
        f"{less.low:+.3f} to {less.high:+.3f}"
    )
    added = "Synthetic films" if arm == SYNTHETIC else "Changed copies of real films"
    about = f" on {question.left_out}, which nothing was learned from," if question.left_out else ""
    if said == "made no difference":
        return f"{added}{about} made no difference that {where} and {trained} can show ({moved})."
    alone = "; chance in training is not in it" if seeds == 1 else ""
    return f"{added}{about} {said} ({moved}{alone}; {where}, {trained})."
