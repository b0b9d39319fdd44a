"""Paired statistics of the ablation: does a condition differ from training on real images alone?"""

from collections.abc import Iterator, Mapping
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ml.evaluation import metrics
from ml.evaluation.ablation_result import ConditionMetrics
from ml.evaluation.ablation_setting import REAL, SYNTHETIC, AblationSetting
from ml.evaluation.comparison_report import MetricDifferences
from ml.evaluation.metrics import BOOTSTRAP_SEED, Floats, Interval, Ints

METRIC_COLUMNS = {"accuracy": "accuracy", "macro_auroc": "macro AUROC"}
# Condition -> (S, N, C): the probabilities of each of its S trainings for N images.
ByCondition = Mapping[str, Floats]


def measure_conditions(
    truth: Ints, patients: NDArray[np.str_], by_condition: ByCondition
) -> dict[str, ConditionMetrics]:
    """Metrics of every condition, and their differences to the condition of real images.

    A metric is the mean over a condition's trainings. Each draw takes patients and trainings, the
    same ones for all conditions. Of S trainings it takes S - 1: so few drawn S times would vary too
    little, by the factor (S - 1) / S (Rao and Wu, "Resampling inference with complex survey data",
    1988). A single training says nothing of chance in training, so its interval is over patients
    alone.

    Args:
        truth: (N,) class numbers.
        patients: (N,) their keys.
        by_condition: condition -> (S, N, C) probabilities.
    """
    seeds = len(by_condition[REAL])
    drawn = chain([np.arange(seeds)], _seed_draws(seeds))

    def scores(images: Ints) -> Floats:
        chosen = next(drawn)
        means = {
            condition: np.mean(
                [_both(truth[images], of_condition[seed, images]) for seed in chosen], axis=0
            )
            for condition, of_condition in by_condition.items()
        }
        return np.concatenate(
            [(means[condition], means[condition] - means[REAL]) for condition in by_condition]
        ).ravel()

    intervals = iter(metrics.bootstrap_each(scores, truth, patients))
    measured = {}
    for condition in by_condition:
        own, less = ({name: next(intervals) for name in METRIC_COLUMNS} for _ in range(2))
        differences = None if condition == REAL else MetricDifferences(**less)
        measured[condition] = ConditionMetrics(**own, differences=differences)
    return measured


def _both(truth: Ints, probabilities: Floats) -> tuple[float, float]:
    return metrics.accuracy(truth, probabilities), metrics.macro_auroc(truth, probabilities)


def _seed_draws(seeds: int) -> Iterator[Ints]:
    random = np.random.default_rng(BOOTSTRAP_SEED)
    while True:
        yield random.integers(seeds, size=max(1, seeds - 1))


def verdict(difference: Interval) -> str:
    """`helped`, `hurt`, or `made no difference`: the interval has to exclude zero to count."""
    if difference.low > 0:
        return "helped"
    return "hurt" if difference.high < 0 else "made no difference"


def effect_sentence(
    condition: str, differences: MetricDifferences, setting: AblationSetting, seeds: int
) -> str:
    """The effect of a condition compared with real images alone, in one sentence.

    It goes by the macro AUROC, which no threshold enters; where the images are of one class, by the
    accuracy.
    """
    of_one_class = np.isnan(differences.macro_auroc.value)
    name = "accuracy" if of_one_class else "macro_auroc"
    less = differences.accuracy if of_one_class else differences.macro_auroc
    where = f"{len(setting.measured)} images of {setting.measured_patients} patients"
    trained = f"{seeds} {'seed' if seeds == 1 else 'seeds'}"
    said = verdict(less)
    moved = (
        f"{METRIC_COLUMNS[name]} {less.value:+.3f} against real images alone, 95 % interval "
        f"{less.low:+.3f} to {less.high:+.3f}"
    )
    added = "Synthetic images" if condition == SYNTHETIC else "Changed copies of real images"
    about = f" on {setting.left_out}, which nothing was learned from," if setting.left_out else ""
    if said == "made no difference":
        return f"{added}{about} made no difference that {where} and {trained} can show ({moved})."
    alone = "; chance in training is not in it" if seeds == 1 else ""
    return f"{added}{about} {said} ({moved}{alone}; {where}, {trained})."
