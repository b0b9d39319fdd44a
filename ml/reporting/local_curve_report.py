"""The curves of local calibration as a table, as Markdown and as a picture."""

from collections.abc import Iterator
from math import isnan

from ml.evaluation.local_curve import PROVED, CurvePoint, LocalCurves
from ml.evaluation.metrics import Interval
from ml.reporting.charts import line_chart
from ml.reporting.format import markdown_table

HEAD = (
    "left out",
    "labelled images",
    "thresholds",
    "answered",
    "right, of the answered",
    "normals called COVID-19",
    "answers nothing",
)
_TRAINING_SITES = "of the training sites"
# A picture of a page without our style sheet: colours for light and dark readers alike.
_STYLE = (
    "<style>svg{background:#fff;font:12px system-ui,sans-serif}text{fill:#14191e}"
    ".tick,.label{fill:#4d5760}.grid,.frame,.ideal,.line{fill:none}.grid{stroke:#dce0e3}"
    ".frame{stroke:#b3bbc2}.line{stroke-width:2}"
    ".line.s0{stroke:#b5452f}.line.s1{stroke:#946008;stroke-dasharray:7 3}"
    ".line.s2{stroke:#2c7a57;stroke-dasharray:2 3}.line.s3{stroke:#2563a8;stroke-dasharray:9 3 2 3}"
    ".line.s4{stroke:#7d4aa3;stroke-dasharray:12 3}.line.s5{stroke:#5a6570;"
    "stroke-dasharray:4 2 1 2}.dot.s0{fill:#b5452f}.dot.s1{fill:#946008}.dot.s2{fill:#2c7a57}"
    ".dot.s3{fill:#2563a8}.dot.s4{fill:#7d4aa3}.dot.s5{fill:#5a6570}</style>"
)


def curve_rows(curves: LocalCurves) -> Iterator[tuple[str, ...]]:
    """A row for each hospital, number of labelled images and rule."""
    for hospital in curves.hospitals:
        for point in hospital.points:
            yield (
                hospital.hospital,
                str(point.labelled),
                point.rule if point.labelled else _TRAINING_SITES,
                _text(point.answered),
                _text(point.right),
                _text(point.healthy_called_target),
                f"{point.silent:.0%}" if point.labelled else "",
            )


def _text(value: Interval) -> str:
    if isnan(value.value):
        return "-"
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def render_curves(curves: LocalCurves) -> str:
    """The curves as a Markdown page."""
    return (
        "# Labelled images of a hospital that was left out\n\n"
        "Thresholds are fitted on random labelled images of the hospital, one for each patient, "
        f"and measured on its others: mean of {curves.draws} draws, in brackets the middle 95 % of "
        "them. `proved`: where the labelled images prove the bounds. `plain`: where the bounds "
        "hold on them.\n\n"
        f"{markdown_table(HEAD, curve_rows(curves))}\n"
    )


def draw_curves(curves: LocalCurves, rule: str = PROVED) -> str:
    """The share answered over the labelled images, a line for each hospital, as an SVG file."""
    series = {
        hospital.hospital: [
            (float(point.labelled), point.answered.value)
            for point in hospital.points
            if _is_of(point, rule)
        ]
        for hospital in curves.hospitals
    }
    chart = line_chart(
        {name: line for name, line in series.items() if line},
        title=f"Share answered over labelled images of the hospital, {rule} thresholds",
        x_label=f"labelled images of the hospital ({rule} thresholds)",
        y_label="share with a definite prediction",
        y_range=(0.0, 1.0),
    )
    head, _, rest = chart.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{_STYLE}{rest}\n'


def _is_of(point: CurvePoint, rule: str) -> bool:
    return point.labelled == 0 or point.rule == rule
