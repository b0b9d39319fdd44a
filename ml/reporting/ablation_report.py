"""Whether synthetic images help, as one HTML file that needs nothing else."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ml.reporting.charts import Point, line_chart
from ml.reporting.page import render_page

HTML = "conditions.html"


def render_conditions(result: Mapping[str, Any]) -> str:
    """The result as HTML; `result` is what `ml.evaluation.ablation.compare_conditions` gives."""
    return render_page(
        _TEMPLATE,
        **result,
        charts={
            question["name"]: Markup(_chart(question, result["conditions"]))  # noqa: S704 it escapes
            for question in result["questions"]
        },
    )


def _chart(question: Mapping[str, Any], conditions: Mapping[str, Any]) -> str:
    """A point for each training; where images are of one class, their accuracy."""
    rows = [row for of_condition in question["trainings"].values() for row in of_condition]
    key = "macro_auroc" if all(row["macro_auroc"] is not None for row in rows) else "accuracy"
    series: dict[str, list[Point]] = {
        conditions[condition]["name"]: [(row["seed"], row[key]) for row in of_condition]
        for condition, of_condition in question["trainings"].items()
    }
    name = {"macro_auroc": "macro AUROC", "accuracy": "accuracy"}[key]
    return line_chart(series, title=f"{name} of each training", x_label="seed", y_label=name)


_TEMPLATE = """\
{% extends "frame" %}
{% macro metrics(arms_of) %}
<table class="explained">
<thead><tr><th scope="col">Learned from</th><th scope="col">Accuracy</th>\
<th scope="col">Macro AUROC</th></tr></thead>
<tbody>
{% for condition, own in arms_of.items() %}
<tr><th scope="row">{{ conditions[condition].name }}</th>
{% for key in ("accuracy", "macro_auroc") %}
<td>{{ own[key]|with_interval }}
{% if own.differences %}
<small>difference to real images {{ own.differences[key]|with_interval }}</small>
{% endif %}
</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
{% endmacro %}
{% block title %}Do synthetic images help?{% endblock %}
{% block main %}
<h1>Do synthetic images help?</h1>
{% for sentence in sentences %}
<p>{{ sentence }}</p>
{% endfor %}
{% if demonstration %}
<p>The images are those of the demonstration set, which a generator made: nothing here says anything
about patients.</p>
{% endif %}

<p>The same classifier ({{ options.network }}), trained {{ options.seeds }}
{{ "time" if options.seeds == 1 else "times" }} in each of three ways, with as many steps in an
epoch. Metrics are means over the trainings. In brackets: 95&nbsp;% intervals from {{ draws }}
bootstrap draws (seed {{ seed }}) of whole patients and of trainings, the same ones for all three.
{% if options.seeds == 1 %}
A single training of each says nothing of chance in training, which is in no interval here.
{% endif %}
An effect is claimed only where the interval of the difference in macro AUROC lies wholly on one
side of zero.</p>
<dl>
{% for condition in conditions.values() %}
<dt>{{ condition.name }}</dt><dd>{{ condition.learns }}</dd>
{% endfor %}
</dl>

{% for question in questions %}
<h2 id="{{ loop.index }}">\
{% if question.left_out %}On {{ question.left_out }}, a hospital never seen\
{% else %}On the test images{% endif %}</h2>
<p>{{ question.images }} images of {{ question.patients }} patients.
{% if question.left_out %}
No condition learned from an image of {{ question.left_out }}. The generator may have: it was
trained
elsewhere, and then what it knows of this source is in its images.
{% endif %}
</p>
<div class="scroll" tabindex="0" role="region" aria-labelledby="{{ loop.index }}">
{{ metrics(question.conditions) }}
</div>
<metric>{{ charts[question.name] }}
<figcaption>Each training by its seed: how far chance alone moves the metric</figcaption></metric>
<details><summary>Each training</summary>
<table>
<thead><tr><th scope="col">Learned from</th><th scope="col">Seed</th>\
<th scope="col">Accuracy</th><th scope="col">Macro AUROC</th></tr></thead>
<tbody>
{% for condition, rows in question.trainings.items() %}
{% for row in rows %}
<tr><th scope="row">{{ conditions[condition].name }}</th><td>{{ row.seed }}</td>
<td>{{ row.accuracy|three }}</td><td>{{ row.macro_auroc|three }}</td></tr>
{% endfor %}
{% endfor %}
</tbody>
</table></details>
{% for source in question.sources %}
{% set place = question.name ~ "-" ~ loop.index %}
<h3 id="{{ place }}">Of {{ source.source }}: {{ source.images }} images of \
{{ source.patients }} patients</h3>
<div class="scroll" tabindex="0" role="region" aria-labelledby="{{ place }}">
{{ metrics(source.conditions) }}
</div>
{% endfor %}
<h3>Images learned from</h3>
<table>
<thead><tr><th scope="col">Class</th><th scope="col">Real</th>\
<th scope="col">Synthetic, or changed copies in their place</th></tr></thead>
<tbody>
{% for label, count in question.learned.real.items() %}
<tr><th scope="row">{{ label|name }}</th><td>{{ count }}</td>
<td>{{ question.learned.synthetic[label] }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endfor %}

<h2 id="options">Options</h2>
<table aria-labelledby="options">
<thead><tr><th scope="col">Option</th><th scope="col">Value</th></tr></thead>
<tbody>
{% for key, value in options.items() %}
<tr><th scope="row">{{ key }}</th><td>{{ "none" if value == "" else value }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endblock %}
"""
