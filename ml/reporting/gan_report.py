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
        _EVALUATION,
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
        _COMPARISON,
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


_MACROS = """\
{% macro table(head, rows, label, caption="") %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ label }}">
<table>
{% if caption %}<caption>{{ caption }}</caption>{% endif %}
<thead><tr>{% for name in head %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row">{{ row[0] }}</th>\
{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
{% macro explained(rows, label, samples, real) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ label }}">
<table class="explained">
<thead><tr><th scope="col">Metric</th><th scope="col">{{ samples }}</th>\
<th scope="col">{{ real }}</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row">{{ row.name }} <small>{{ row.meaning }}</small></th>
<td>{{ row.value }}</td><td>{{ row.real }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
{% macro chart_pairs(charts) %}
<div class="pairs">
{% for svg, caption in charts %}
<figure>{{ svg }}<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
</div>
{% endmacro %}
"""
_EVALUATION = (
    """\
{% extends "page.html" %}
"""
    + _MACROS
    + """\
{% block title %}Evaluation of generator {{ generator.sha256[:12] }}{% endblock %}
{% block main %}
<h1>Evaluation of generator {{ generator.sha256[:12] }}</h1>
<p>Objective {{ options.objective }}, {{ options.network }} networks, {{ options.size }} px,
{{ options.labels }}. {{ samples.images }} samples with seeds from {{ samples.first_seed }} are
compared with {{ real.images }} real images of {{ real.patients }} patients: the test split, which
was not used to train or to select this generator.</p>
<p>Synthetic images are not evidence about any patient. This page shows no real image.</p>
{% for note in notes %}<p class="card">{{ note }}</p>
{% endfor %}

<h2>Samples</h2>
<figure><img class="sheet" src="{{ sheet }}" alt="64 synthetic chest X-rays in a grid">
<figcaption>Seeds 0 to 63, not selected{% if samples.classes %}; the classes
{{ samples.classes|join(", ") }} alternate{% endif %}</figcaption></figure>

{% for title, tables in space_tables %}
<h2>Feature space {{ title }}</h2>
{% for label, rows in tables %}
{% if label %}<h3>{{ label|name }}</h3>{% endif %}
{% if rows %}
{{ explained(rows, title ~ " " ~ label, "Samples", "Real images") }}
{% else %}
<p>This class has too few images for separate metrics.</p>
{% endif %}
{% endfor %}
{% endfor %}
<p>Brackets hold 95&nbsp;% intervals over resampled patients. After &plusmn; stands the standard
error of the FID, or the spread of real images over random halves. The column of real images shows
the same metric between two sets of real images that share no patient, seed {{ real.seed }}. Copies
are searched among {{ real.training_images }} training images and their mirror images, and compared
with {{ real.held_out_images }} held-out images.</p>

<h2>Pixel metrics</h2>
{{ explained(pixel_rows, "Pixel metrics", "Samples", "Real images") }}

{% if training_table[1] %}
<h2>Training</h2>
<p>The Wasserstein estimate is the critic's mean score of real images minus that of samples. KID is
measured against the validation images.</p>
{{ chart_pairs(charts) }}
<details><summary>As a table</summary>
{{ table(training_table[0], training_table[1], "Evaluations during training") }}
</details>
{% endif %}

<h2>Generator</h2>
<table>
<thead><tr><th scope="col">Property</th><th scope="col">Value</th></tr></thead>
<tbody>
<tr><th scope="row">SHA-256</th><td><code>{{ generator.sha256 }}</code></td></tr>
<tr><th scope="row">Steps, images seen</th>
<td>{{ generator.step }}, {{ generator.images_seen }}</td></tr>
<tr><th scope="row">Training images</th>
<td>{% for label, count in generator.images.items() %}{{ count }} {{ label }}{{ ", " if not
loop.last }}{% endfor %}</td></tr>
{% for key, value in options.items() %}
<tr><th scope="row">{{ key }}</th><td>{{ value }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endblock %}
"""
)
_COMPARISON = (
    """\
{% extends "page.html" %}
"""
    + _MACROS
    + """\
{% block title %}Comparison of GANs{% endblock %}
{% block main %}
<h1>Comparison of GANs</h1>
<p>Images of the class {{ options.labels }}, {{ options.size }} px. Training time of each model and
seed: {{ "%g"|format(options.budget_minutes) }} min on the same machine ({{ device }}). All models
were trained on the same images, and each is measured by its generator with the lowest KID against
the validation images.</p>
{% for note in notes %}<p class="card">{{ note }}</p>
{% endfor %}

<h2>Samples (the report's table 4.1)</h2>
<div class="images">
{% for title, model, source in grids %}
<figure>
{% if source %}
<img src="{{ source }}" alt="Synthetic chest X-rays by {{ title }}">
{% else %}
<p class="card">No generator: training ended before its first evaluation.</p>
{% endif %}
<figcaption><strong>{{ title }}</strong>{% if model.problem %} &mdash;
{{ model.problem }}{% endif %}</figcaption>
</figure>
{% endfor %}
<figure><p class="card">Real images are not shown: they belong to patients, and many of their
licences forbid redistribution. The first row of the tables has the metrics of real images.</p>
<figcaption><strong>real images</strong></figcaption></figure>
</div>
<p>Seeds 0 to 24 of each model, not selected.</p>

{% for title, (head, rows) in metric_tables.items() %}
<h2>Feature space {{ title }}</h2>
{{ table(head, rows, title) }}
{% endfor %}
{% if real %}
<p>{{ options.samples }} samples of each model against {{ real.images }} test images of
{{ real.patients }} patients. {% if seeds|length > 1 %}Mean and standard deviation over the seeds
{{ seeds|sort|join(", ") }}.{% else %}Brackets hold the 95&nbsp;% interval of KID over resampled
patients; after &plusmn; stands the standard error of FID. With one seed the spread over trainings
is unknown.{% endif %} The first row compares two sets of real images of different patients.</p>
<dl>
{% for column in columns %}
<dt>{{ column.name }}</dt><dd>{{ column.meaning }}</dd>
{% endfor %}
</dl>
{% endif %}

<h2>Training</h2>
{{ table(model_table[0], model_table[1], "Training") }}
{{ chart_pairs(kid_charts) }}
{% if seeds|length > 1 %}<p>The curves are of seed {{ first_seed }}.</p>{% endif %}
<p>The Wasserstein estimate below is the critic's mean score of real images minus that of samples.
It is a distance under the Wasserstein objectives; under the others it only shows which network is
ahead. Scales differ between models.</p>
<div class="pairs">
{% for title, charts in loss_charts %}{% for svg, caption in charts %}
<figure>{{ svg }}<figcaption>{{ title }}</figcaption></figure>
{% endfor %}{% endfor %}
</div>
{% for title, (head, rows) in training_tables %}
<details><summary>{{ title }}: all evaluations</summary>
{{ table(head, rows, title ~ ": all evaluations") }}
</details>
{% endfor %}
{% endblock %}
"""
)
