"""A generator's metrics, and a comparison of many, each as one HTML file that needs nothing else.

No real image is on these pages: they may be shown and published where the images may not.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from ml.gan.generator_file import LoadedGenerator
from ml.gan.sampling import sample_sheet
from ml.reporting.charts import Point, curve_chart
from ml.reporting.gan_tables import (
    METRIC_COLUMNS,
    metric_tables,
    model_table,
    pixel_rows,
    significant,
    space_rows,
    titled_models,
)
from ml.reporting.page import picture, render_page

METRICS, REPORT = "metrics.json", "report.html"
# A logarithmic axis where the largest KID is so many times the smallest.
_WIDE = 30.0
_TICK_COLUMNS = {
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
Rows = Sequence[Mapping[str, Any]]


def draw_sheet(loaded: LoadedGenerator, side: int = 8) -> bytes:
    """A PNG file of `side` squared samples, seeds from 0; several classes come in turn."""
    length = loaded.card.options.latent
    sheet = sample_sheet(loaded.network, len(loaded.labels), length=length, side=side)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    return file.getvalue()


def write_evaluation(
    out: Path, evaluation: Mapping[str, Any], sheet: bytes, rows: Rows = ()
) -> None:
    """Write `metrics.json` and `report.html`.

    Args:
        out: the folder; it is made where it is missing.
        evaluation: as of `ml.gan.evaluation.evaluate.evaluate_gan`.
        sheet: a PNG file of the samples of seeds 0 to 63.
        rows: of the training's ticks, where its curves are wanted.
    """
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**evaluation, "training": list(rows)}, indent=2, allow_nan=False) + "\n"
    (out / METRICS).write_text(text, encoding="utf-8")
    (out / REPORT).write_text(render_evaluation(evaluation, sheet, rows), encoding="utf-8")


def render_evaluation(evaluation: Mapping[str, Any], sheet: bytes, rows: Rows = ()) -> str:
    """The page of one generator; arguments as for `write_evaluation`."""
    pixels, counts = evaluation["pixels"], evaluation["real"]
    samples = evaluation["samples"]["images"]
    return render_page(
        _EVALUATION,
        **evaluation,
        sheet=picture(sheet),
        space_tables=[(_title(space), _tables_of(space)) for space in evaluation["spaces"]],
        pixel_rows=pixel_rows(pixels, samples, counts["held_out_images"]),
        charts=_game_charts(rows) + _kid_charts({"KID": rows}),
        ticks=_tick_table(rows),
    )


def _title(space: Mapping[str, Any]) -> str:
    return f"{space['name']} ({space['sha256'][:12]})"


def _tables_of(space: Mapping[str, Any]) -> list[tuple[str, list[Any]]]:
    """The class, empty for all of them, and its rows; none where its images are too few."""
    of_classes = space["per_class"].items()
    tables = [("", space_rows(space))]
    return tables + [(label, space_rows(own) if own else []) for label, own in of_classes]


def render_comparison(comparison: Mapping[str, Any], grids: Mapping[str, bytes]) -> str:
    """The page of a comparison.

    Args:
        comparison: as of `ml.gan.evaluation.compare.compare_gans`.
        grids: PNG files of samples, by the name that a model's `grid` gives.
    """
    titled = list(titled_models(comparison))
    first_seed = min((model["seed"] for _, model in titled), default=0)
    curves = {title: model["rows"] for title, model in titled if model["seed"] == first_seed}
    measured = [model["evaluation"] for _, model in titled if model["evaluation"]]
    return render_page(
        _COMPARISON,
        options=comparison["options"],
        device=comparison["device"],
        grids=[
            (title, model, picture(grids[model["grid"]]) if model["grid"] else None)
            for title, model in titled
        ],
        model_table=model_table(comparison),
        metric_tables=metric_tables(comparison),
        metrics=[metric for metric in METRIC_COLUMNS if metric.brief],
        real=measured[0]["real"] if measured else None,
        notes=list(dict.fromkeys(note for one in measured for note in one["notes"])),
        seeds={model["seed"] for _, model in titled},
        first_seed=first_seed,
        kid_charts=_kid_charts(curves),
        game_charts=[(title, _game_charts(rows)) for title, rows in curves.items()],
        ticks=[(title, _tick_table(model["rows"])) for title, model in titled],
    )


def _kid_charts(curves: Mapping[str, Rows]) -> list[tuple[Markup, str]]:
    """KID over time and over images seen, of all that have a curve."""
    charts = []
    for label, key, unit in (
        ("minutes of training", "seconds", 60),
        ("images seen, in thousands", "images", 1000),
    ):
        series = {
            name: [(row[key] / unit, row["kid"]) for row in rows if row["kid"] is not None]
            for name, rows in curves.items()
        }
        charts += _chart(series, f"KID over {label.split(',')[0]}", label, "KID")
    return charts


def _game_charts(rows: Rows) -> list[tuple[Markup, str]]:
    """How critic and generator stood over time; of each tick the mean."""
    series = {
        name: [(row["seconds"] / 60, row[key]) for row in rows if row[key] is not None]
        for name, key in (("Wasserstein estimate", "wasserstein"), ("critic loss", "critic_loss"))
    }
    return _chart(series, "Wasserstein estimate and critic loss", "minutes of training", "score")


def _chart(
    series: Mapping[str, Sequence[Point]], title: str, x_label: str, y_label: str
) -> list[tuple[Markup, str]]:
    """A chart with its caption; none where no line has two points."""
    lines = {name: points for name, points in series.items() if len(points) > 1}
    if not lines:
        return []
    heights = [y for points in lines.values() for _, y in points]
    wide = min(heights) > 0 and max(heights) > _WIDE * min(heights)
    svg = curve_chart(lines, title=title, x_label=x_label, y_label=y_label, log_y=wide)
    return [(Markup(svg), title)]  # noqa: S704  # charts escape every text given to them


def _tick_table(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Head and rows of all ticks of a training."""
    shown = [
        [_tick_text(key, {**row, "minutes": row["seconds"] / 60}) for key in _TICK_COLUMNS]
        for row in rows
    ]
    return list(_TICK_COLUMNS.values()), shown


def _tick_text(key: str, row: Mapping[str, Any]) -> str:
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
{% macro drawn(charts) %}
<div class="pairs">
{% for svg, caption in charts %}
<metric>{{ svg }}<figcaption>{{ caption }}</figcaption></metric>
{% endfor %}
</div>
{% endmacro %}
"""
_EVALUATION = (
    """\
{% extends "frame" %}
"""
    + _MACROS
    + """\
{% block title %}Evaluation of generator {{ generator.sha256[:12] }}{% endblock %}
{% block main %}
<h1>Evaluation of generator {{ generator.sha256[:12] }}</h1>
<p>{{ generator.options.objective }} with the {{ generator.options.network }} networks,
{{ generator.options.size }} px, {{ generator.options.labels }}. {{ samples.images }} samples of
seeds from {{ samples.first_seed }} against {{ real.images }} real images of {{ real.patients }}
patients, the test split, which neither trained nor chose this generator.</p>
<p>Synthetic images are no evidence of anything about a patient. No real image is shown here.</p>
{% for note in notes %}<p class="card">{{ note }}</p>
{% endfor %}

<h2>Samples</h2>
<metric><img class="sheet" src="{{ sheet }}" alt="64 synthetic chest X-rays in a grid">
<figcaption>Seeds 0 to 63, chosen by nobody{% if samples.classes %}; the classes
{{ samples.classes|join(", ") }} in turn{% endif %}</figcaption></metric>

{% for title, tables in space_tables %}
<h2>In the feature space {{ title }}</h2>
{% for label, rows in tables %}
{% if label %}<h3>{{ label|name }}</h3>{% endif %}
{% if rows %}
{{ explained(rows, title ~ " " ~ label, "Samples", "Real images") }}
{% else %}
<p>Too few images of this class for metrics of its own.</p>
{% endif %}
{% endfor %}
{% endfor %}
<p>In brackets: 95&nbsp;% intervals over resampled patients; after &plusmn; the standard error of
the FID, and the spread of real images over random halves. The column of real images holds what two
sets of real images that share no patient reach in the same measure, seed {{ real.seed }}. Copies
are
looked for among {{ real.training_images }} training images and their mirror images, beside
{{ real.held_out_images }} held-out images.</p>

<h2>Pixel by pixel</h2>
{{ explained(pixel_rows, "Pixel by pixel", "Samples", "Real images") }}

{% if ticks[1] %}
<h2>Training</h2>
<p>The Wasserstein estimate is the critic's mean score of real images less that of samples. KID is
against the validation images.</p>
{{ drawn(charts) }}
<details><summary>As a table</summary>
{{ table(ticks[0], ticks[1], "Ticks of the training") }}
</details>
{% endif %}

<h2>Generator</h2>
<table>
<thead><tr><th scope="col">Property</th><th scope="col">Value</th></tr></thead>
<tbody>
<tr><th scope="row">SHA-256</th><td><code>{{ generator.sha256 }}</code></td></tr>
<tr><th scope="row">steps, images seen</th>
<td>{{ generator.step }}, {{ generator.images_seen }}</td></tr>
<tr><th scope="row">training images</th>
<td>{% for label, count in generator.images.items() %}{{ count }} {{ label }}{{ ", " if not
loop.last }}{% endfor %}</td></tr>
{% for key, value in generator.options.items() %}
<tr><th scope="row">{{ key }}</th><td>{{ value }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endblock %}
"""
)
_COMPARISON = (
    """\
{% extends "frame" %}
"""
    + _MACROS
    + """\
{% block title %}Generative adversarial networks compared{% endblock %}
{% block main %}
<h1>Generative adversarial networks compared</h1>
<p>Images of the class {{ options.labels }}, {{ options.size }} px. Time to train for, of each
model and seed: {{ "%g"|format(options.budget_minutes) }} min on the same machine
({{ device }}). All learned from the same training images; each is measured with the generator that
had the lowest KID against the validation images on the way.</p>
{% for note in notes %}<p class="card">{{ note }}</p>
{% endfor %}

<h2>Samples (the report's table 4.1)</h2>
<div class="images">
{% for title, model, source in grids %}
<metric>
{% if source %}
<img src="{{ source }}" alt="Synthetic chest X-rays by {{ title }}">
{% else %}
<p class="card">No generator: training ended before its first tick.</p>
{% endif %}
<figcaption><strong>{{ title }}</strong>{% if model.problem %} &mdash;
{{ model.problem }}{% endif %}</figcaption>
</metric>
{% endfor %}
<metric><p class="card">Real images: none is shown. They belong to patients, and many of their
licences forbid passing them on. What real images reach stands in the first row of the tables.</p>
<figcaption><strong>real images</strong></figcaption></metric>
</div>
<p>The seeds 0 to 24 of each model, chosen by nobody.</p>

{% for title, (head, rows) in metric_tables.items() %}
<h2>In the feature space {{ title }}</h2>
{{ table(head, rows, title) }}
{% endfor %}
{% if real %}
<p>{{ options.samples }} samples of each model against {{ real.images }} test images of
{{ real.patients }} patients. {% if seeds|length > 1 %}Mean and standard deviation over the seeds
{{ seeds|sort|join(", ") }}.{% else %}In brackets the 95&nbsp;% interval of KID over resampled
patients, after &plusmn; the standard error of FID; one seed, so nothing is known of the spread over
trainings.{% endif %} The first row is what two sets of real images of different patients reach.</p>
<dl>
{% for metric in metrics %}
<dt>{{ metric.name }}</dt><dd>{{ metric.meaning }}</dd>
{% endfor %}
</dl>
{% endif %}

<h2>Training</h2>
{{ table(model_table[0], model_table[1], "Training") }}
{{ drawn(kid_charts) }}
{% if seeds|length > 1 %}<p>The curves are of seed {{ first_seed }}.</p>{% endif %}
<p>The Wasserstein estimate below is the critic's mean score of real images less that of samples:
a distance under the Wasserstein objectives, under the others only a measure of who is ahead.
Scales differ from model to model.</p>
<div class="pairs">
{% for title, charts in game_charts %}{% for svg, caption in charts %}
<metric>{{ svg }}<figcaption>{{ title }}</figcaption></metric>
{% endfor %}{% endfor %}
</div>
{% for title, (head, rows) in ticks %}
<details><summary>{{ title }}: all ticks</summary>
{{ table(head, rows, title ~ ": all ticks") }}
</details>
{% endfor %}
{% endblock %}
"""
)
