"""The metrics of a run as curves: read from `metrics.jsonl`, thinned, placed on a small chart."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.runs.progress import METRICS
from ml.json_model import finite
from ml.legacy import rename_keys

Item = TypeVar("Item")
# More points than a small chart has pixels show nothing more.
MOST_POINTS = 240
TABLE_ROWS = 12
# What counts the rows, and what the clock says, is no curve.
_AXES = ("step", "epoch", "images", "done")
_CLOCK = ("seconds", "of")
_ABBREVIATIONS = {"kid": "KID", "fid": "FID", "auroc": "AUROC", "lr": "LR"}
# Of the chart, in its own units; the labels of the axes stand outside, as text.
WIDTH, HEIGHT = 300.0, 120.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric over the steps.

    Attributes:
        name: for people.
        points: of an SVG polyline; where the metric was no number there is none.
        last: its last value.
        low: the value at the bottom of the chart.
        high: the value at its top.
        dot: where the last value stands.

    """

    name: str
    points: str
    last: str
    low: str
    high: str
    dot: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curves:
    """All metrics of a run.

    Attributes:
        axis: what the steps are called.
        first: the step at the left.
        last: the step at the right.
        curves: one for each metric with more than one value.
        columns: names of the table's metrics.
        rows: the table: a step and its metrics, evenly picked, the last ones included.

    """

    axis: str
    first: str
    last: str
    curves: list[Curve]
    columns: list[str]
    rows: list[tuple[str, list[str]]]


@dataclass(frozen=True, slots=True)
class Series:
    """The metrics of a run as numbers.

    Attributes:
        axis: what the steps are called.
        steps: in order.
        metrics: name -> a value for each step, None where it was not measured.

    """

    axis: str
    steps: list[float]
    metrics: dict[str, list[float | None]]


def read_series(folder: Path) -> Series | None:
    """The metrics of a run; None where it has none yet."""
    rows = read_curve_rows(folder / METRICS)
    axis = next((name for name in _AXES if rows and name in rows[-1]), "")
    rows = [row for row in rows if as_number(row.get(axis)) is not None]
    if not rows:
        return None
    # A metric may come late, as one that is measured now and then.
    names = dict.fromkeys(name for row in rows for name in row if name not in (*_AXES, *_CLOCK))
    columns = {name: [as_number(row.get(name)) for row in rows] for name in names}
    return Series(
        axis=axis,
        steps=[float(row[axis]) for row in rows],
        metrics={name: column for name, column in columns.items() if any(_known(column))},
    )


def _known(column: Sequence[float | None]) -> list[bool]:
    return [value is not None for value in column]


def read_curves(folder: Path) -> Curves | None:
    """The curves of a run; None where it has no metrics yet."""
    series = read_series(folder)
    if series is None:
        return None
    picked = _thinned(range(len(series.steps)), TABLE_ROWS)
    return Curves(
        axis=series.axis,
        first=f"{series.steps[0]:,.0f}",
        last=f"{series.steps[-1]:,.0f}",
        curves=[
            _curve(name, series.steps, values)
            for name, values in series.metrics.items()
            if _is_line(values)
        ],
        columns=[metric_name(name) for name in series.metrics],
        rows=[
            (
                f"{series.steps[place]:,.0f}",
                [number_as_text(values[place]) for values in series.metrics.values()],
            )
            for place in picked
        ],
    )


def read_curve_rows(path: Path) -> list[dict[str, Any]]:
    """At most `MOST_POINTS` rows of a file of JSON lines, evenly picked, the last one included."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    rows = []
    for line in _thinned(lines, MOST_POINTS):
        try:
            row = rename_keys(json.loads(line))
        except ValueError:
            # The last one is being written, or a killed program left it so.
            continue
        if isinstance(row, dict):
            rows.append(finite(row))
    return rows


def _thinned(items: Sequence[Item], most: int) -> list[Item]:
    if len(items) <= most:
        return list(items)
    last = len(items) - 1
    return [items[round(last * place / (most - 1))] for place in range(most)]


def _is_line(values: Sequence[float | None]) -> bool:
    """Whether there is more than one point: a single one shows no course."""
    return sum(_known(values)) > 1


def _curve(name: str, steps: Sequence[float], values: Sequence[float | None]) -> Curve:
    known = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
    low, high = min(value for _, value in known), max(value for _, value in known)
    # A flat line runs through the middle.
    span, floor = (high - low, low) if high > low else (1.0, low - 0.5)
    reach, left = steps[-1] - steps[0], steps[0]
    points = [
        (WIDTH * (step - left) / reach, HEIGHT * (1 - (value - floor) / span))
        for step, value in known
    ]
    return Curve(
        name=metric_name(name),
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        last=number_as_text(known[-1][1]),
        low=number_as_text(low),
        high=number_as_text(high),
        dot=points[-1],
    )


def metric_name(name: str) -> str:
    """validation_macro_auroc -> Validation macro AUROC."""
    words = [_ABBREVIATIONS.get(word, word) for word in name.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def as_number(value: Any) -> float | None:
    """A finite number; what else a program may have written is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def number_as_text(value: float | None) -> str:
    """0.12345 -> 0.123; 20000 -> 20,000."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
