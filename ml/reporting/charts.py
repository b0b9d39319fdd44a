"""Charts as SVG text: pure functions of numbers, without a drawing library.

A chart contains no colours. Its parts carry classes (`frame`, `grid`, `s0`, `s1`, ...), and
the page it stands in says how they look on paper, on a light and on a dark screen. Lines differ by
dashes as well as by colour.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ml.evaluation.metrics import ReliabilityBin

Point = tuple[float, float]
# Left, top, right and bottom margins hold the labels of the axes.
_MARGINS = (52.0, 14.0, 14.0, 46.0)
_LEGEND_LINE = 18.0


@dataclass(frozen=True, slots=True)
class _Plane:
    """Maps metrics to the pixels of a plot."""

    x_range: Point
    y_range: Point
    width: float
    height: float

    def x(self, value: float) -> float:
        """From a metric to pixels from the left."""
        low, high = self.x_range
        return _MARGINS[0] + self.width * (value - low) / (high - low)

    def y(self, value: float) -> float:
        """From a metric to pixels from the top."""
        low, high = self.y_range
        return _MARGINS[1] + self.height * (high - value) / (high - low)

    def path(self, points: Sequence[Point]) -> str:
        """The points as the coordinates of a polyline."""
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)


def line_chart(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_range: Point | None = None,
) -> str:
    """Lines over a common axis, such as the loss over the epochs.

    Args:
        series: name of a line -> its points (x, y), from left to right.
        title: what the chart shows, for those who cannot see it.
        x_label: name of the horizontal axis.
        y_label: name of the vertical axis.
        y_range: the vertical axis; by default round numbers around the points.
    """
    points = [point for line in series.values() for point in line]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    x_ticks = [float(tick) for tick in _whole_ticks(x_low, x_high)]
    y_low, y_high = y_range or (min(y for _, y in points), max(y for _, y in points))
    y_ticks = _round_ticks(y_low, y_high)
    span = y_range or (y_ticks[0], y_ticks[-1])
    # A single epoch is a point in the middle, not a division by zero.
    margin = 0.0 if x_high > x_low else 1.0
    plane = _Plane((x_low - margin, x_high + margin), span, 480.0, 240.0)
    body = _axes(plane, x_ticks, y_ticks, x_label, y_label)
    body += "".join(_line(plane, k, line, dots=True) for k, line in enumerate(series.values()))
    return _svg(plane, title, body, legend=list(series))


def curve_chart(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    dots: bool = False,
) -> str:
    """Curves over a continuous axis, such as a distance or a time.

    Args:
        series: name of a curve -> its points (x, y), from left to right.
        title: what the chart shows, for those who cannot see it.
        x_label: name of the horizontal axis.
        y_label: name of the vertical axis.
        log_y: whether the vertical axis counts in powers of ten; all y are then above zero.
        dots: whether the points are marked, so that a single one is seen, too.
    """
    if log_y:
        series = {name: [(x, math.log10(y)) for x, y in line] for name, line in series.items()}
    points = [point for line in series.values() for point in line]
    x_ticks = _round_ticks(min(x for x, _ in points), max(x for x, _ in points))
    low, high = min(y for _, y in points), max(y for _, y in points)
    y_ticks = _decade_ticks(low, high) if log_y else _round_ticks(low, high)
    plane = _Plane((x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1]), 480.0, 240.0)
    body = _axes(plane, x_ticks, y_ticks, x_label, y_label, _power if log_y else _number)
    body += "".join(_line(plane, k, line, dots=dots) for k, line in enumerate(series.values()))
    return _svg(plane, title, body, legend=list(series))


def path_chart(
    series: Mapping[str, Sequence[Point]],
    marks: Mapping[str, Point],
    *,
    title: str,
    x_label: str,
    y_label: str,
) -> str:
    """Ways through a plane whose axes have the same scale: a circle is drawn as a circle.

    Args:
        series: name of a way -> its points (x, y) in order.
        marks: name -> a point of the plane to mark with a dot.
        title: what the chart shows, for those who cannot see it.
        x_label: name of the horizontal axis.
        y_label: name of the vertical axis.
    """
    places = [value for line in [*series.values(), marks.values()] for p in line for value in p]
    ticks = _round_ticks(min(places), max(places))
    plane = _Plane((ticks[0], ticks[-1]), (ticks[0], ticks[-1]), 300.0, 300.0)
    body = _axes(plane, ticks, ticks, x_label, y_label)
    body += "".join(_line(plane, k, line) for k, line in enumerate(series.values()))
    for name, (x, y) in marks.items():
        body += f'<circle class="mark" cx="{plane.x(x):.1f}" cy="{plane.y(y):.1f}" r="3.5"/>'
        body += _text(plane.x(x) + 7, plane.y(y) - 6, name, "start")
    return _svg(plane, title, body, legend=list(series))


def histogram_chart(
    heights: Sequence[float],
    edges: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
) -> str:
    """Bars that stand on zero, side by side.

    Args:
        heights: (N,) of the bars, none below zero.
        edges: (N + 1,) where one bar ends and the next begins, from left to right.
        title: what the chart shows, for those who cannot see it.
        x_label: name of the horizontal axis.
        y_label: name of the vertical axis.
    """
    x_ticks, y_ticks = _round_ticks(edges[0], edges[-1]), _round_ticks(0.0, max(heights))
    plane = _Plane((x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1]), 480.0, 240.0)
    body = _axes(plane, x_ticks, y_ticks, x_label, y_label)
    bottom = plane.y(0.0)
    for height, left, right in zip(heights, edges[:-1], edges[1:], strict=True):
        x, y = plane.x(left), plane.y(height)
        body += (
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" '
            f'width="{plane.x(right) - x:.1f}" height="{bottom - y:.1f}"/>'
        )
    return _svg(plane, title, body)


def roc_chart(curves: Mapping[str, Sequence[Point]], *, title: str) -> str:
    """ROC curves; the diagonal is a guess.

    Args:
        curves: name -> points (share of negatives named, share of positives named).
        title: what the chart shows, for those who cannot see it.
    """
    plane = _unit_plane()
    labels = ("share of the others called so", "share of the class found")
    body = _axes(plane, _QUARTERS, _QUARTERS, *labels) + _diagonal(plane)
    body += "".join(_line(plane, k, curve) for k, curve in enumerate(curves.values()))
    return _svg(plane, title, body, legend=list(curves))


def reliability_chart(bins: Sequence[ReliabilityBin], *, title: str) -> str:
    """Predicted probability against share correct; the diagonal is perfect calibration.

    Args:
        bins: of an evaluation; the area of a dot grows with its count.
        title: what the chart shows, for those who cannot see it.
    """
    plane = _unit_plane()
    most = max(part.count for part in bins)
    points = [(part.confidence, part.accuracy) for part in bins]
    dots = "".join(
        f'<circle class="dot s0" cx="{plane.x(x):.1f}" cy="{plane.y(y):.1f}" '
        f'r="{2.5 + 6 * math.sqrt(part.count / most):.1f}"/>'
        for (x, y), part in zip(points, bins, strict=True)
    )
    body = _axes(plane, _QUARTERS, _QUARTERS, "predicted probability", "share correct")
    return _svg(plane, title, body + _diagonal(plane) + _line(plane, 0, points) + dots)


def confusion_chart(counts: Sequence[Sequence[int]], names: Sequence[str], *, title: str) -> str:
    """A confusion matrix: true classes down, predicted ones across, shaded by share of the row."""
    cell, left, top = 96.0, 110.0, 46.0
    side = cell * len(names)
    parts = []
    for row, (name, line) in enumerate(zip(names, counts, strict=True)):
        y = top + row * cell
        parts.append(_text(left - 10, y + cell / 2 + 4, name, "end"))
        parts.append(_text(left + (row + 0.5) * cell, top - 10, name))
        for column, count in enumerate(line):
            share = count / max(sum(line), 1)
            x = left + column * cell
            parts.append(
                f'<rect class="cell" x="{x}" y="{y}" width="{cell}" height="{cell}" '
                f'fill-opacity="{0.5 * share:.3f}"/>'
            )
            middle = x + cell / 2
            parts.append(_text(middle, y + cell / 2, f"{count:,}", style="count"))
            parts.append(_text(middle, y + cell / 2 + 18, f"{share:.0%}"))
    parts.append(_text(left + side / 2, 14, "most probable class", style="label"))
    parts.append(_upright(14, top + side / 2, "what the image shows"))
    return _frame(left + side + 8, top + side + 8, title, "".join(parts))


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def _unit_plane() -> _Plane:
    return _Plane((0.0, 1.0), (0.0, 1.0), 300.0, 300.0)


def _number(tick: float) -> str:
    return f"{tick:g}"


def _power(exponent: float) -> str:
    # Written out, 0.0001 would run into the name of the axis.
    if exponent in (0.0, 1.0):
        return f"{10**exponent:g}"
    return "10" + f"{exponent:g}".translate(_RAISED)


def _axes(
    plane: _Plane,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
    y_text: Callable[[float], str] = _number,
) -> str:
    left, right = _MARGINS[0], _MARGINS[0] + plane.width
    top, bottom = _MARGINS[1], _MARGINS[1] + plane.height
    parts = []
    for tick in x_ticks:
        x = plane.x(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>')
        parts.append(_text(x, bottom + 16, _number(tick), style="tick"))
    for tick in y_ticks:
        y = plane.y(tick)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        parts.append(_text(left - 7, y + 4, y_text(tick), "end", style="tick"))
    parts.append(f'<path class="frame" d="M{left} {top}H{right}V{bottom}H{left}Z"/>')
    parts.append(_text((left + right) / 2, bottom + 36, x_label, style="label"))
    parts.append(_upright(14, (top + bottom) / 2, y_label))
    return "".join(parts)


def _diagonal(plane: _Plane) -> str:
    return f'<polyline class="ideal" points="{plane.path([(0, 0), (1, 1)])}"/>'


def _line(plane: _Plane, number: int, points: Sequence[Point], *, dots: bool = False) -> str:
    line = f'<polyline class="line s{number}" points="{plane.path(points)}"/>'
    if not dots:
        return line
    return line + "".join(
        f'<circle class="dot s{number}" cx="{plane.x(x):.1f}" cy="{plane.y(y):.1f}" r="2.6"/>'
        for x, y in points
    )


def _svg(plane: _Plane, title: str, body: str, legend: Sequence[str] = ()) -> str:
    left, top, right, bottom = _MARGINS
    height = top + plane.height + bottom
    for number, name in enumerate(legend):
        y = height + _LEGEND_LINE * number + 8
        body += f'<path class="line s{number}" d="M{left} {y}h34"/>'
        body += _text(left + 44, y + 4, name, "start")
    return _frame(left + plane.width + right, height + _LEGEND_LINE * len(legend) + 4, title, body)


def _frame(width: float, height: float, title: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" aria-label="{escape(title)}">{body}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", style: str = "name") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{style}" {place}>{escape(text)}</text>'


def _upright(x: float, y: float, text: str) -> str:
    turned = f'transform="rotate(-90 {x:g} {y:g})"'
    place = f'x="{x:g}" y="{y:g}" text-anchor="middle"'
    return f'<text class="label" {place} {turned}>{escape(text)}</text>'


def _round_ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose the range."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * 5 >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _whole_ticks(low: float, high: float) -> range:
    """At most ten whole numbers."""
    step = max(1, math.ceil((high - low) / 10))
    return range(round(low), round(high) + 1, step)


def _decade_ticks(low: float, high: float) -> list[float]:
    """At most ten whole powers of ten, by their exponents, that enclose the range."""
    first, last = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    step = math.ceil((last - first) / 9)
    return [float(power) for power in range(first, last + step, step)]
