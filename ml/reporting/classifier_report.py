"""An evaluation as one HTML file that needs nothing else: no script, no font, no address."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ml.classifier.bundle import Card
from ml.data.manifest import ImageRecord
from ml.errors import CheckpointError
from ml.evaluation.evaluate import Answers, EvaluationMetrics, count_images, roc_curves
from ml.evaluation.metrics import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED
from ml.json_model import finite
from ml.labels import label_name
from ml.options import ClassifierOptions
from ml.reporting.charts import Point, confusion_chart, line_chart, reliability_chart, roc_chart
from ml.reporting.page import render_page, with_interval

METRICS = "metrics.json"
REPORT = "report.html"


def write_evaluation(out: Path, evaluation: Mapping[str, Any]) -> None:
    """Write `metrics.json` and `report.html`.

    Args:
        out: the folder; it is made where it is missing.
        evaluation: what `describe` gives.
    """
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(evaluation, indent=2, allow_nan=False) + "\n"
    (out / METRICS).write_text(text, encoding="utf-8")
    (out / REPORT).write_text(render_report(evaluation), encoding="utf-8")


def describe(
    card: Card,
    images: Sequence[ImageRecord],
    answers: Answers,
    metrics: EvaluationMetrics,
    rows: Sequence[Mapping[str, float]],
    *,
    leave_out: str = "",
) -> dict[str, Any]:
    """All that an evaluation found, as JSON values for `write_evaluation`.

    Args:
        card: of the classifier.
        images: what was measured on.
        answers: the classifier's, to these images.
        metrics: of these answers.
        rows: of a training run's log; may be empty.
        leave_out: the source that was kept from training, where the images are its.
    """
    protocol = (
        f"All images of the source {leave_out}, none of which was in training or validation."
        if leave_out
        else "The test split: patients in no training or validation set."
    )
    evaluation: dict[str, Any] = finite(
        {
            "model": {
                key: getattr(card, key) for key in ("version", "sha256", "network", "options")
            },
            "protocol": protocol,
            "seed": BOOTSTRAP_SEED,
            "draws": BOOTSTRAP_DRAWS,
            "data": count_images(images, card.labels),
            "metrics": asdict(metrics),
            "roc": roc_curves(answers),
            "training": rows,
        }
    )
    return evaluation


def read_training_rows(run: Path, card: Card) -> list[dict[str, float]]:
    """The rows of the log of the run that a classifier came from, one for each epoch.

    Raises:
        CheckpointError: the folder holds no training run, or one with other options than the
            card's, whose curves would be another network's.
    """
    log, options = run / "metrics.jsonl", run / "options.json"
    if not (log.is_file() and options.is_file()):
        raise CheckpointError(f"{run} holds no training run: name the --out of xray train")
    written = json.loads(options.read_text(encoding="utf-8")).get("options")
    if written is None:
        raise CheckpointError(f"{options} is of another version of xray train: train again")
    # An option that is younger than the run or the card had its default then.
    defaults = asdict(ClassifierOptions())
    theirs, ours = defaults | written, defaults | card.options
    if theirs != ours:
        changed = ", ".join(name for name in ours if theirs.get(name) != ours[name])
        raise CheckpointError(
            f"{run} is not the run that classifier {card.version} came from: other {changed}"
        )
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def render_report(evaluation: Mapping[str, Any]) -> str:
    """The report as HTML; `evaluation` is what `describe` gives."""
    metrics, rows = evaluation["metrics"], evaluation["training"]
    names = [label_name(label) for label in metrics["per_class"]]
    return render_page(
        _TEMPLATE,
        **evaluation,
        names=names,
        confusion_svg=Markup(  # noqa: S704 the charts escape every text given to them
            confusion_chart(metrics["confusion"], names, title="Confusion matrix")
        ),
        roc_svg=Markup(_roc(evaluation)),  # noqa: S704 as above
        reliability_svg=Markup(  # noqa: S704 as above
            reliability_chart(
                metrics["reliability"], title="Reliability: probability against share right"
            )
        ),
        training_svgs=[
            (caption, Markup(_curves(rows, kind, title)))  # noqa: S704 as above
            for kind, title, caption in _TRAINING_CHARTS
            if rows
        ],
        training_columns=[key for key in _TRAINING_COLUMNS if any(key in row for row in rows)],
        columns=_TRAINING_COLUMNS,
    )


_TRAINING_CHARTS = (
    ("accuracy", "Accuracy over the epochs", "Accuracy over the epochs (the report's metric 4.5)"),
    ("loss", "Loss over the epochs", "Loss over the epochs, in nats (the report's metric 4.6)"),
)
_TRAINING_COLUMNS = {
    "train_accuracy": "training accuracy",
    "validation_accuracy": "validation accuracy",
    "train_loss": "training loss",
    "validation_loss": "validation loss",
}


def _curves(rows: Sequence[Mapping[str, float]], kind: str, title: str) -> str:
    """Training and validation over the epochs; a run may be older than its training accuracy."""
    series: dict[str, list[Point]] = {
        part: [(row["epoch"], row[f"{key}_{kind}"]) for row in rows if f"{key}_{kind}" in row]
        for part, key in (("validation", "validation"), ("training", "train"))
    }
    drawn = {part: points for part, points in series.items() if points}
    return line_chart(drawn, title=title, x_label="epoch", y_label=kind)


def _roc(evaluation: Mapping[str, Any]) -> str:
    if not evaluation["roc"]:
        return ""
    classes = evaluation["metrics"]["per_class"]
    named = {
        f"{label_name(label)}, AUROC {with_interval(classes[label]['auroc_interval'])}": curve
        for label, curve in evaluation["roc"].items()
    }
    return roc_chart(named, title="ROC curves of each class against the others")


_TEMPLATE = """\
{% extends "frame" %}
{% block title %}Evaluation of classifier {{ model.version }}{% endblock %}
{% block main %}
<h1>Evaluation of classifier {{ model.version }}</h1>
<p>{{ protocol }} {{ metrics.images }} images of {{ metrics.patients }} patients. In brackets:
95&nbsp;% intervals from {{ draws }} bootstrap draws of whole patients, seed {{ seed }}. An
interval without width means that no draw met an error, not that there are none.</p>
<p>Not a medical device: these metrics are about these images, not about a clinic.</p>

<h2 id="overall">Overall</h2>
<table aria-labelledby="overall">
<thead><tr><th scope="col">Metric</th><th scope="col">Value (interval)</th></tr></thead>
<tbody>
<tr><th scope="row">Accuracy</th><td>{{ metrics.accuracy|with_interval }}</td></tr>
<tr><th scope="row">Macro AUROC, one against rest</th><td>{{ metrics.macro_auroc|with_interval }}\
</td></tr>
<tr><th scope="row">Expected calibration error</th>
<td>{{ metrics.calibration_error_interval|with_interval }}</td></tr>
</tbody>
</table>
<p>Sources are mixed here as they are in the data. Where a source gives its label away, these
metrics flatter; the ones within a single source do not.</p>

<h2 id="classes">Each class</h2>
<div class="scroll" tabindex="0" role="region" aria-labelledby="classes">
<table>
<caption>The form of the report's table 4.2; recall is also called sensitivity</caption>
<thead><tr><th scope="col">Class</th><th scope="col">Precision</th><th scope="col">Recall</th>
<th scope="col">F1</th><th scope="col">AUROC against rest</th><th scope="col">Images</th></tr>
</thead>
<tbody>
{% for label, own in metrics.per_class.items() %}
<tr><th scope="row">{{ label|name }}</th><td>{{ own.precision_interval|with_interval }}</td>
<td>{{ own.recall_interval|with_interval }}</td><td>{{ own.f1_interval|with_interval }}</td>
<td>{{ own.auroc_interval|with_interval }}</td><td>{{ own.support }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>

<h2 id="confusion">Confusion matrix</h2>
<metric>{{ confusion_svg }}
<figcaption>Images by what they show and by the most probable class; shares are of the row (the
report's metric 4.4)</figcaption></metric>
<details><summary>As a table</summary>
<table aria-labelledby="confusion">
<thead><tr><th scope="col">Image shows</th>\
{% for column in names %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in metrics.confusion %}
<tr><th scope="row">{{ names[loop.index0] }}</th>\
{% for count in row %}<td>{{ count }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></details>

<h2 id="within">Within one source</h2>
{% if metrics.within_source %}
<p>The name of the source tells nothing here.</p>
<div class="scroll" tabindex="0" role="region" aria-labelledby="within">
<table>
<thead><tr><th scope="col">Source</th><th scope="col">Question</th><th scope="col">AUROC</th>
<th scope="col">Images</th></tr></thead>
<tbody>
{% for row in metrics.within_source %}
<tr><th scope="row">{{ row.source }}</th>
<td>{{ row.positive|name }} against {{ row.negative|name }}</td>
<td>{{ row.auroc|with_interval }}</td><td>{{ row.auroc.n }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
{% else %}
<p>No source has enough patients of two classes.</p>
{% endif %}

<h2 id="roc">ROC curves</h2>
{% if roc %}
<metric>{{ roc_svg }}
<figcaption>One class against the two others, over all thresholds of its probability; dotted: a
guess</figcaption></metric>
{% else %}
<p>All images are of one class: there is nothing to tell it from.</p>
{% endif %}

<h2 id="reliability">Reliability</h2>
<metric>{{ reliability_svg }}
<figcaption>Probability of the most probable class against the share that was right; dotted:
perfect. Expected calibration error {{ metrics.calibration_error_interval|with_interval }}; drawn
patients repeat, so its interval lies high</figcaption></metric>
<details><summary>As a table</summary>
<table aria-labelledby="reliability">
<thead>
<tr><th scope="col">Probability</th><th scope="col">Right</th><th scope="col">Images</th></tr>
</thead>
<tbody>
{% for bin in metrics.reliability %}
<tr><th scope="row">{{ bin.confidence|three }}</th><td>{{ bin.accuracy|three }}</td>
<td>{{ bin.count }}</td></tr>
{% endfor %}
</tbody>
</table></details>

<h2 id="rule">Decision rule</h2>
<p>Below its threshold of confidence, or on an out-of-distribution image, the classifier answers
&ldquo;uncertain&rdquo;.</p>
<table aria-labelledby="rule">
<thead><tr><th scope="col">Metric</th><th scope="col">Value (interval)</th></tr></thead>
<tbody>
{% for key, text in [("coverage", "Share of images answered"),
  ("accuracy_when_answering", "Accuracy of those"),
  ("accuracy_when_uncertain", "Accuracy of the others, had they been answered"),
  ("out_of_distribution", "Share called out-of-distribution")] %}
<tr><th scope="row">{{ text }}</th>
<td>{{ metrics.selective[key ~ "_interval"]|with_interval }}</td></tr>
{% endfor %}
</tbody>
</table>

{% if training %}
<h2 id="training">Training</h2>
<p>Training metrics are of the changed images that the network learned from, class by class as
often, as it was at each step; validation metrics are of untouched images after each epoch. The two
are not to be compared to the last digit.</p>
<div class="charts">
{% for caption, svg in training_svgs %}
<metric>{{ svg }}<figcaption>{{ caption }}</figcaption></metric>
{% endfor %}
</div>
<details><summary>As a table</summary>
<div class="scroll" tabindex="0" role="region" aria-labelledby="training">
<table>
<thead><tr><th scope="col">Epoch</th>\
{% for key in training_columns %}<th scope="col">{{ columns[key] }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in training %}
<tr><th scope="row">{{ row.epoch }}</th>\
{% for key in training_columns %}<td>{{ row.get(key)|three }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div></details>
{% endif %}

<h2 id="data">Images measured on</h2>
<table aria-labelledby="data">
<thead><tr><th scope="col">Source</th>\
{% for column in names %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for source, counts in data.items() %}
<tr><th scope="row">{{ source }}</th>\
{% for count in counts.values() %}<td>{{ count }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>

<h2 id="model">Model</h2>
<table aria-labelledby="model">
<thead><tr><th scope="col">Property</th><th scope="col">Value</th></tr></thead>
<tbody>
<tr><th scope="row">SHA-256 of the graph</th><td><code>{{ model.sha256 }}</code></td></tr>
{% for key, value in model.options.items() %}
<tr><th scope="row">{{ key }}</th><td>{{ "none" if value == "" else value }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endblock %}
"""
