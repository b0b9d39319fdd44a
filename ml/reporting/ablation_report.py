"""Whether synthetic films help, as one HTML file that needs nothing else."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ml.reporting.charts import Point, line_chart
from ml.reporting.page import render_page

HTML = "arms.html"


def render_arms(result: Mapping[str, Any]) -> str:
    """The result as HTML; `result` is what `ml.evaluation.ablation.compare_arms` gives."""
    return render_page(
        _TEMPLATE,
        **result,
        charts={
            question["name"]: Markup(_chart(question, result["arms"]))  # noqa: S704 it escapes
            for question in result["questions"]
        },
    )


def _chart(question: Mapping[str, Any], arms: Mapping[str, Any]) -> str:
    """A point for each training; where films are of one class, their accuracy."""
    rows = [row for of_arm in question["trainings"].values() for row in of_arm]
    key = "macro_auroc" if all(row["macro_auroc"] is not None for row in rows) else "accuracy"
    series: dict[str, list[Point]] = {
        arms[arm]["name"]: [(row["seed"], row[key]) for row in of_arm]
        for arm, of_arm in question["trainings"].items()
    }
    name = {"macro_auroc": "macro AUROC", "accuracy": "accuracy"}[key]
    return line_chart(series, title=f"{name} of each training", x_label="seed", y_label=name)


_TEMPLATE = """\
{% extends "frame" %}
{% macro figures(arms_of) %}
<table class="explained">
<thead><tr><th scope="col">Learned from</th><th scope="col">Accuracy</th>\
<th scope="col">Macro AUROC</th></tr></thead>
<tbody>
{% for arm, own in arms_of.items() %}
<tr><th scope="row">{{ arms[arm].name }}</th>
{% for key in ("accuracy", "macro_auroc") %}
<td>{{ own[key]|with_interval }}
{% if own.differences %}
<small>difference to real films {{ own.differences[key]|with_interval }}</small>
{% endif %}
</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
{% endmacro %}
{% block title %}Do synthetic films help?{% endblock %}
{% block main %}
<h1>Do synthetic films help?</h1>
{% for sentence in sentences %}
<p>{{ sentence }}</p>
{% endfor %}
{% if demonstration %}
<p>The films are those of the demonstration set, which a generator made: nothing here says anything
about patients.</p>
{% endif %}

<p>The same classifier ({{ options.network }}), trained {{ options.seeds }}
{{ "time" if options.seeds == 1 else "times" }} in each of three ways, with as many steps in an
epoch. Figures are means over the trainings. In brackets: 95&nbsp;% intervals from {{ draws }}
bootstrap draws (seed {{ seed }}) of whole patients and of trainings, the same ones for all three.
{% if options.seeds == 1 %}
A single training of each says nothing of chance in training, which is in no interval here.
{% endif %}
An effect is claimed only where the interval of the difference in macro AUROC lies wholly on one
side of zero.</p>
<dl>
{% for arm in arms.values() %}
<dt>{{ arm.name }}</dt><dd>{{ arm.learns }}</dd>
{% endfor %}
</dl>

{% for question in questions %}
<h2 id="{{ loop.index }}">\
{% if question.left_out %}On {{ question.left_out }}, a hospital never seen\
{% else %}On the test films{% endif %}</h2>
<p>{{ question.films }} films of {{ question.patients }} patients.
{% if question.left_out %}
No arm learned from a film of {{ question.left_out }}. The generator may have: it was trained
elsewhere, and then what it knows of this source is in its films.
{% endif %}
</p>
<div class="scroll" tabindex="0" role="region" aria-labelledby="{{ loop.index }}">
{{ figures(question.arms) }}
</div>
<figure>{{ charts[question.name] }}
<figcaption>Each training by its seed: how far chance alone moves the figure</figcaption></figure>
<details><summary>Each training</summary>
<table>
<thead><tr><th scope="col">Learned from</th><th scope="col">Seed</th>\
<th scope="col">Accuracy</th><th scope="col">Macro AUROC</th></tr></thead>
<tbody>
{% for arm, rows in question.trainings.items() %}
{% for row in rows %}
<tr><th scope="row">{{ arms[arm].name }}</th><td>{{ row.seed }}</td>
<td>{{ row.accuracy|three }}</td><td>{{ row.macro_auroc|three }}</td></tr>
{% endfor %}
{% endfor %}
</tbody>
</table></details>
{% for source in question.sources %}
{% set place = question.name ~ "-" ~ loop.index %}
<h3 id="{{ place }}">Of {{ source.source }}: {{ source.films }} films of \
{{ source.patients }} patients</h3>
<div class="scroll" tabindex="0" role="region" aria-labelledby="{{ place }}">
{{ figures(source.arms) }}
</div>
{% endfor %}
<h3>Films learned from</h3>
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
