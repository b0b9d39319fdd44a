"""Metrics as text, the same on the page, in the model card and in the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def three(value: float | None) -> str:
    """Three decimals; JSON's null is a metric that is not defined."""
    return "not defined" if value is None else f"{value:.3f}"


def interval(metric: Mapping[str, Any]) -> tuple[str, str]:
    """The value of a metric and its 95 % interval."""
    return three(metric["value"]), f"{three(metric['low'])} to {three(metric['high'])}"


def images_by_source(data: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Images of all splits together: source -> label -> count; `data` as in a card."""
    total: dict[str, dict[str, int]] = {}
    for part in data["by_source"].values():
        for source, counts in part.items():
            own = total.setdefault(source, dict.fromkeys(counts, 0))
            for label, count in counts.items():
                own[label] += count
    return dict(sorted(total.items()))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as Markdown, without a line break at the end."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
