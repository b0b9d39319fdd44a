"""Several runs beside one another: their curves in one chart, and the options they differ in."""

import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from sqlalchemy.orm import Session

from app.core.errors import AppError
from app.runs import queue as runs
from app.runs.curves import HEIGHT, WIDTH, Series, metric_name, number_as_text, read_series
from app.runs.files import Sample, list_samples, run_folder
from app.runs.tables import Run
from app.runs.views import OptionText, RunSummary, option_texts
from app.settings import Settings
from ml.data.table_text import csv_line
from ml.json_model import JsonModel
from ml.texts import msg

# As many as can be told apart in one chart.
MOST_RUNS = 6
COLUMNS = ("run", "name", "axis", "step", "metric", "value")


class NotComparable(AppError):
    """Too few or too many runs were chosen."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = msg("Nothing to compare")
    default_code = "not-comparable"


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run that is compared.

    Attributes:
        number: of its line in the charts, from 1.
        summary: its name, status and duration.
        series: its metrics; None before the first.
        options: as text, by title.
        sample: its newest grid of synthetic images; None where it has none.

    """

    number: int
    summary: RunSummary
    series: Series | None
    options: dict[str, OptionText]
    sample: Sample | None


def load_runs(session: Session, settings: Settings, ids: Sequence[uuid.UUID]) -> list[ComparedRun]:
    """The runs to compare, in the order of their ids, each once.

    Raises:
        NotComparable: there are fewer than two, or more than `MOST_RUNS`.
        NotFound: there is no run of an id.
    """
    wanted = list(dict.fromkeys(ids))
    if not 2 <= len(wanted) <= MOST_RUNS:
        raise NotComparable(
            msg(
                "Choose 2 to %(most_runs)s runs to compare; %(wanted)s were chosen.",
                most_runs=MOST_RUNS,
                wanted=len(wanted),
            )
        )
    found = [runs.get_run(session, run_id) for run_id in wanted]
    return [_compared(session, settings, run, number) for number, run in enumerate(found, 1)]


def _compared(session: Session, settings: Settings, run: Run, number: int) -> ComparedRun:
    folder = run_folder(settings, run.id)
    samples = list_samples(folder, run.id)
    return ComparedRun(
        number=number,
        summary=RunSummary.of(run),
        series=read_series(folder),
        options={option.name: option for option in option_texts(session, run)},
        sample=samples[-1] if samples else None,
    )


@dataclass(frozen=True, slots=True)
class OptionRow:
    """An option that not all runs share: its value in each, None where a run does not have it."""

    name: str
    values: list[OptionText | None]


def option_differences(compared: Sequence[ComparedRun]) -> list[OptionRow]:
    """The options in which the runs differ."""
    names = dict.fromkeys(name for run in compared for name in run.options)
    rows = [OptionRow(name, [run.options.get(name) for run in compared]) for name in names]
    return [row for row in rows if len({each.value if each else None for each in row.values}) > 1]


@dataclass(frozen=True, slots=True)
class Line:
    """One run's curve of a metric.

    Attributes:
        number: of the run.
        points: of an SVG polyline.
        end: where its last value stands.
        lowest: as text.
        highest: as text.
        last: as text.

    """

    number: int
    points: str
    end: tuple[float, float]
    lowest: str
    highest: str
    last: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric of all runs that have it.

    Attributes:
        name: for people.
        axis: what the steps are called; of several kinds, all.
        lines: one for each run with more than one value.
        low: the value at the bottom.
        high: the value at the top.
        first: the step at the left.
        last: the step at the right.
        is_log: whether the scale is logarithmic: it cannot be where a value is not above zero.

    """

    name: str
    axis: str
    lines: list[Line]
    low: str
    high: str
    first: str
    last: str
    is_log: bool


@dataclass(frozen=True, slots=True)
class _Scale:
    """Places values in a chart."""

    low: float
    high: float
    first: float
    last: float
    is_log: bool

    @classmethod
    def over(cls, curves: Sequence[Sequence[tuple[float, float]]], *, log: bool) -> Self:
        steps = [step for curve in curves for step, _ in curve]
        values = [value for curve in curves for _, value in curve]
        return cls(min(values), max(values), min(steps), max(steps), log and min(values) > 0)

    def place(self, step: float, value: float) -> tuple[float, float]:
        low, high, here = (
            (math.log(each) if self.is_log else each) for each in (self.low, self.high, value)
        )
        # A flat line runs through the middle.
        up = (here - low) / (high - low) if high > low else 0.5
        right = (step - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return WIDTH * right, HEIGHT * (1 - up)


def charts_of(compared: Sequence[ComparedRun], *, smoothing: float, log: bool) -> list[Chart]:
    """One chart for each metric that any run has, all on common axes.

    Args:
        compared: the runs.
        smoothing: weight of the past in the average that is drawn, 0 to below 1.
        log: whether to draw positive metrics on a logarithmic scale.
    """
    names = dict.fromkeys(name for run in compared if run.series for name in run.series.metrics)
    return [
        chart for name in names if (chart := _chart(compared, name, smoothing=smoothing, log=log))
    ]


def _chart(
    compared: Sequence[ComparedRun], name: str, *, smoothing: float, log: bool
) -> Chart | None:
    measured = {
        run.number: points
        for run in compared
        if run.series and len(points := _points(run.series, name)) > 1
    }
    if not measured:
        return None
    drawn = {number: smooth(points, smoothing) for number, points in measured.items()}
    scale = _Scale.over(list(drawn.values()), log=log)
    axes = dict.fromkeys(
        run.series.axis for run in compared if run.series and run.number in measured
    )
    return Chart(
        name=metric_name(name),
        axis=" or ".join(axes),
        lines=[_line(number, measured[number], curve, scale) for number, curve in drawn.items()],
        low=number_as_text(scale.low),
        high=number_as_text(scale.high),
        first=f"{scale.first:,.0f}",
        last=f"{scale.last:,.0f}",
        is_log=scale.is_log,
    )


def _line(
    number: int,
    measured: Sequence[tuple[float, float]],
    curve: Sequence[tuple[float, float]],
    scale: _Scale,
) -> Line:
    places = [scale.place(step, value) for step, value in curve]
    values = [value for _, value in measured]
    return Line(
        number=number,
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places),
        end=places[-1],
        lowest=number_as_text(min(values)),
        highest=number_as_text(max(values)),
        last=number_as_text(values[-1]),
    )


def _points(series: Series, name: str) -> list[tuple[float, float]]:
    values = series.metrics.get(name, [])
    return [
        (step, value)
        for step, value in zip(series.steps, values, strict=False)
        if value is not None
    ]


def smooth(points: Sequence[tuple[float, float]], weight: float) -> list[tuple[float, float]]:
    """An exponential moving average of the values that begins at the first one.

    Args:
        points: steps and values.
        weight: of the past, 0 to below 1; 0 changes nothing.
    """
    average, total = 0.0, 0.0
    smoothed = []
    for step, value in points:
        average = weight * average + (1 - weight) * value
        total = weight * total + (1 - weight)
        smoothed.append((step, average / total))
    return smoothed


def csv_of(compared: Sequence[ComparedRun]) -> Iterator[str]:
    """All values of all runs, one in a line, not smoothed."""
    yield csv_line(COLUMNS)
    for run in compared:
        if run.series is None:
            continue
        for name in run.series.metrics:
            for step, value in _points(run.series, name):
                about = (str(run.summary.id), run.summary.name, run.series.axis)
                yield csv_line([*about, f"{step:g}", name, repr(value)])


class RunExport(JsonModel):
    """A compared run as JSON.

    Attributes:
        metrics: name -> a value for each step, null where it was not measured.
    """

    id: uuid.UUID
    name: str
    run_type: str
    status: str
    options: dict[str, str]
    axis: str
    steps: list[float]
    metrics: dict[str, list[float | None]]


class ComparisonExport(JsonModel):
    """All compared runs as JSON."""

    runs: list[RunExport]


def export_of(compared: Sequence[ComparedRun]) -> ComparisonExport:
    """The values and options of all runs."""
    return ComparisonExport(
        runs=[
            RunExport(
                id=run.summary.id,
                name=run.summary.name,
                run_type=run.summary.title,
                status=run.summary.status.value,
                options={name: option.value for name, option in run.options.items()},
                axis=run.series.axis if run.series else "",
                steps=run.series.steps if run.series else [],
                metrics=run.series.metrics if run.series else {},
            )
            for run in compared
        ]
    )
