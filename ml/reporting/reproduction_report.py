"""A reproduction of the 2021 report as tables and as Markdown."""

from collections.abc import Iterator
from math import isnan

from ml.evaluation.metrics import Interval
from ml.evaluation.reproduction_result import (
    CONDITIONS,
    LABELS,
    NETWORK,
    TEST_SETS,
    MeasuredImages,
    ReproductionResult,
)
from ml.labels import DISPLAY_NAMES
from ml.reporting.format import interval, markdown_table


def accuracy_table(result: ReproductionResult) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the report's metrics beside ours."""
    recalls = [f"recall {DISPLAY_NAMES[label]}" for label in LABELS]
    head = ["network", "measured on", "images", "patients", "accuracy", *recalls]
    given = [result.reported.accuracy, *(result.reported.recall[label] for label in LABELS)]
    rows = [["the report", "own test images", "3000", "", *(f"{one:.2f}" for one in given)]]
    for name, test_set, measured in _each_measured(result):
        recall = [measured.per_class[label].recall_interval for label in LABELS]
        counts = [str(measured.images), str(measured.patients)]
        values = [_brief(one) for one in (measured.accuracy, *recall)]
        rows.append([CONDITIONS[name][0], TEST_SETS[test_set][0], *counts, *values])
    return head, rows


def auroc_table(result: ReproductionResult) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the AUROC within single sources."""
    rows = [
        [
            CONDITIONS[name][0],
            row.source,
            f"{DISPLAY_NAMES[row.positive]} against {DISPLAY_NAMES[row.negative]}",
            str(row.auroc.n),
            _brief(row.auroc),
        ]
        for name, test_set, measured in _each_measured(result)
        # The test images hold those of the children, and of the collection COVID-19 alone.
        if test_set != "test"
        for row in measured.within_source
    ]
    return ["network", "source", "question", "images", "AUROC"], rows


def _each_measured(result: ReproductionResult) -> Iterator[tuple[str, str, MeasuredImages]]:
    """Condition, test set, metrics."""
    for name in CONDITIONS:
        for test_set, measured in result.conditions[name].metrics.items():
            yield name, test_set, measured


def _brief(metric: Interval) -> str:
    """A metric with its interval; nothing where there is no image to it."""
    if isnan(metric.value):
        return ""
    value, reach = interval(metric)
    return f"{value} ({reach})"


def render_reproduction(result: ReproductionResult) -> str:
    """The result as Markdown."""
    options = result.options
    return "\n".join(
        [
            "# Reproduction of the report's classifier",
            "",
            f"`{NETWORK}`, {options.epochs} epochs, seed {options.seed}, "
            f"{options.precision}. In brackets: 95 % intervals, resampled by patient.",
            "",
            markdown_table(*accuracy_table(result)),
            "",
            *(
                f"- {name}: {meaning}"
                for name, meaning in (*CONDITIONS.values(), *TEST_SETS.values())
            ),
            "",
            "AUROC within one source, where the source does not reveal the class:",
            "",
            markdown_table(*auroc_table(result)),
            "",
        ]
    )
