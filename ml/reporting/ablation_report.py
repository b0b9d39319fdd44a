"""Whether synthetic images help, as one HTML file that needs nothing else."""

from dataclasses import asdict
from math import isnan

from markupsafe import Markup

from ml.evaluation.ablation_result import AblationResult, ConditionDescription, SettingResult
from ml.reporting.charts import Point, line_chart
from ml.reporting.page import render_page

HTML = "conditions.html"
TEMPLATE = "ablation.html"


def render_conditions(result: AblationResult) -> str:
    """The result of an ablation as HTML."""
    return render_page(
        TEMPLATE,
        result=result,
        options=asdict(result.options),
        charts={
            setting.name: Markup(_chart(setting, result.conditions))  # noqa: S704 it escapes
            for setting in result.settings
        },
    )


def _chart(setting: SettingResult, conditions: dict[str, ConditionDescription]) -> str:
    """A point for each training; where images are of one class, their accuracy."""
    rows = [row for own in setting.trainings.values() for row in own]
    has_auroc = not any(isnan(row.macro_auroc) for row in rows)
    name = "macro AUROC" if has_auroc else "accuracy"
    series: dict[str, list[Point]] = {
        conditions[condition].name: [
            (row.seed, row.macro_auroc if has_auroc else row.accuracy) for row in own
        ]
        for condition, own in setting.trainings.items()
    }
    return line_chart(series, title=f"{name} of each training", x_label="seed", y_label=name)
