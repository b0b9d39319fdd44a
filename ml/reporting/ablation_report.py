"""Whether synthetic images help, as one HTML file that needs nothing else."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ml.reporting.charts import Point, line_chart
from ml.reporting.page import render_page

HTML = "conditions.html"
TEMPLATE = "ablation.html"


def render_conditions(result: Mapping[str, Any]) -> str:
    """The result as HTML; `result` is what `ml.evaluation.ablation.compare_conditions` gives."""
    return render_page(
        TEMPLATE,
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
