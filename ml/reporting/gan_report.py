"""The metrics of a generator, and a comparison of GANs, each as one self-contained HTML file.

The pages show no real image, so they can be published where the images cannot.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from ml.files import write_whole
from ml.gan.evaluation.comparison import GanComparison
from ml.gan.evaluation.measured_generator import EvaluationFile, MeasuredGenerator, TrainingRow
from ml.gan.evaluation.results import SpaceMetrics
from ml.gan.generator_file import LoadedGenerator
from ml.gan.sampling import sample_sheet
from ml.reporting.charts import Point, curve_chart
from ml.reporting.gan_tables import (
    METRIC_COLUMNS,
    Row,
    Table,
    metric_tables,
    model_table,
    pixel_rows,
    significant,
    space_rows,
    titled_models,
)
from ml.reporting.page import picture, render_page

METRICS, REPORT = "metrics.json", "report.html"
# The KID axis is logarithmic where the largest KID is this many times the smallest.
_WIDE_RANGE = 30.0
_TRAINING_COLUMNS = {
    "step": "step",
    "images": "images seen",
    "minutes": "minutes",
    "kid": "KID",
    "diversity": "diversity",
    "wasserstein": "Wasserstein estimate",
    "critic_loss": "critic loss",
    "generator_loss": "generator loss",
    "penalty": "penalty",
    "images_per_second": "images per second",
}
Chart = tuple[Markup, str]  # SVG, caption


def draw_sheet(loaded: LoadedGenerator, side: int = 8) -> bytes:
    """A PNG file of `side` squared samples, seeds from 0; several classes alternate."""
    length = loaded.card.options.latent
    sheet = sample_sheet(loaded.network, len(loaded.labels), length=length, side=side)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    return file.getvalue()


def write_generator_evaluation(
    out: Path, evaluation: MeasuredGenerator, sheet: bytes, rows: Sequence[TrainingRow] = ()
) -> None:
    """Write `metrics.json` and `report.html`.

    Args:
        out: the folder; it is created where it is missing.
        evaluation: of the generator.
        sheet: a PNG file of the samples of seeds 0 to 63.
        rows: metrics of the training's evaluations, where its curves are wanted.
    """
    out.mkdir(parents=True, exist_ok=True)
    content = EvaluationFile(**dict(evaluation), training=list(rows))
    write_whole(out / METRICS, content.to_json())
    write_whole(out / REPORT, render_evaluation(evaluation, sheet, rows))


def render_evaluation(
    evaluation: MeasuredGenerator, sheet: bytes, rows: Sequence[TrainingRow] = ()
) -> str:
    """The page of one generator; arguments as for `write_generator_evaluation`."""
    samples, held_out = evaluation.samples.images, evaluation.real.held_out_images
    return render_page(
        "generator.html",
        generator=evaluation.generator,
        options=evaluation.generator.as_json()["options"],
        samples=evaluation.samples,
        real=evaluation.real,
        notes=evaluation.notes,
        sheet=picture(sheet),
        space_tables=[(space.title, _tables_of(space)) for space in evaluation.spaces],
        pixel_rows=pixel_rows(evaluation.pixels, samples, held_out),
        charts=_loss_charts(rows) + _kid_charts({"KID": rows}),
        training_table=_training_table(rows),
    )


def _tables_of(space: SpaceMetrics) -> list[tuple[str, list[Row]]]:
    """Rows of all classes under an empty label, then of each; none where images are too few."""
    tables = [("", space_rows(space))]
    return tables + [
        (label, space_rows(own) if own else []) for label, own in space.per_class.items()
    ]


def render_comparison(comparison: GanComparison, grids: Mapping[str, bytes]) -> str:
    """The page of a comparison.

    Args:
        comparison: its results.
        grids: PNG files of samples, by the name in a model's `grid`.
    """
    titled = list(titled_models(comparison))
    first_seed = min((model.seed for _, model in titled), default=0)
    curves = {title: model.rows for title, model in titled if model.seed == first_seed}
    measured = [model.evaluation for _, model in titled if model.evaluation]
    return render_page(
        "gan_comparison.html",
        options=comparison.options,
        device=comparison.device,
        grids=[
            (title, model, picture(grids[model.grid]) if model.grid else None)
            for title, model in titled
        ],
        model_table=model_table(comparison),
        metric_tables=metric_tables(comparison),
        columns=[column for column in METRIC_COLUMNS if column.brief],
        real=measured[0].real if measured else None,
        notes=list(dict.fromkeys(note for one in measured for note in one.notes)),
        seeds={model.seed for _, model in titled},
        first_seed=first_seed,
        kid_charts=_kid_charts(curves),
        loss_charts=[(title, _loss_charts(rows)) for title, rows in curves.items()],
        training_tables=[(title, _training_table(model.rows)) for title, model in titled],
    )


def _kid_charts(curves: Mapping[str, Sequence[TrainingRow]]) -> list[Chart]:
    """KID over time and over images seen."""
    charts = []
    for label, key, unit in (
        ("minutes of training", "seconds", 60),
        ("images seen, in thousands", "images", 1000),
    ):
        series = {name: _points(rows, key, unit, "kid") for name, rows in curves.items()}
        charts += _chart(series, f"KID over {label.split(',')[0]}", label, "KID")
    return charts


def _loss_charts(rows: Sequence[TrainingRow]) -> list[Chart]:
    """The Wasserstein estimate and the critic's loss over time, means between evaluations."""
    columns = (("Wasserstein estimate", "wasserstein"), ("critic loss", "critic_loss"))
    series = {name: _points(rows, "seconds", 60, key) for name, key in columns}
    return _chart(series, "Wasserstein estimate and critic loss", "minutes of training", "score")


def _points(rows: Sequence[TrainingRow], x: str, unit: float, y: str) -> list[Point]:
    """The points of a curve where both values are defined; x is divided by a unit."""
    values = [(row[x], row[y]) for row in rows]
    return [(at / unit, value) for at, value in values if at is not None and value is not None]


def _chart(
    series: Mapping[str, Sequence[Point]], title: str, x_label: str, y_label: str
) -> list[Chart]:
    """A chart with its caption; none where no line has two points."""
    lines = {name: points for name, points in series.items() if len(points) > 1}
    if not lines:
        return []
    heights = [y for points in lines.values() for _, y in points]
    wide = min(heights) > 0 and max(heights) > _WIDE_RANGE * min(heights)
    svg = curve_chart(lines, title=title, x_label=x_label, y_label=y_label, log_y=wide)
    return [(Markup(svg), title)]  # noqa: S704  # charts escape every text given to them


def _training_table(rows: Sequence[TrainingRow]) -> Table:
    """Head and rows of all evaluations of a training."""
    with_minutes = [{**row, "minutes": (row["seconds"] or 0) / 60} for row in rows]
    shown = [[_training_text(key, row) for key in _TRAINING_COLUMNS] for row in with_minutes]
    return list(_TRAINING_COLUMNS.values()), shown


def _training_text(key: str, row: TrainingRow) -> str:
    return f"{row[key]:,.0f}" if key in ("step", "images") else significant(row[key])
