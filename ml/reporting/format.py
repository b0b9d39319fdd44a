"""Metrics as text, the same on the page, in the model card and in the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan

from ml.classifier.card import TrainingData
from ml.evaluation.metrics import Interval


def three(value: float | None) -> str:
    """Three decimals; NaN, or null in JSON, is a metric that is not defined."""
    return "not defined" if value is None or isnan(value) else f"{value:.3f}"


def percent(value: float) -> str:
    """0.931 -> "93.1 %"."""
    return f"{value * 100:.1f} %"


def interval(metric: Interval | Mapping[str, float | None]) -> tuple[str, str]:
    """The value of a metric and its 95 % interval."""
    if isinstance(metric, Interval):
        return three(metric.value), f"{three(metric.low)} to {three(metric.high)}"
    return three(metric["value"]), f"{three(metric['low'])} to {three(metric['high'])}"


def images_by_source(data: TrainingData) -> dict[str, dict[str, int]]:
    """Images of all splits together: source -> label -> count."""
    total: dict[str, dict[str, int]] = {}
    for part in data.by_source.values():
        for source, counts in part.items():
            own = total.setdefault(source, dict.fromkeys(counts, 0))
            for label, count in counts.items():
                own[label] += count
    return dict(sorted(total.items()))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as Markdown, without a line break at the end."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
