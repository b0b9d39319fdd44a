"""`xray evaluate local`: how many labelled images of a hospital a classifier needs there."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

CURVES, MARKDOWN = "local.json", "local.md"


def evaluate_local_command(
    sites: Annotated[
        list[Path],
        typer.Option(help="Folder of xray evaluate sites, finished or not. Repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    draws: Annotated[int, typer.Option(min=10, help="Draws of labelled images.")] = 200,
) -> None:
    """Fit thresholds on 20 to 200 labelled images of each left-out site, and measure them there."""
    from ml.evaluation.local_curve import PLAIN, PROVED, measure_curves, read_hospitals
    from ml.files import write_whole
    from ml.reporting.local_curve_report import HEAD, curve_rows, draw_curves, render_curves

    curves = measure_curves(read_hospitals(sites), draws=draws)
    table = Table(*HEAD)
    for row in curve_rows(curves):
        table.add_row(*row)
    Console().print(table)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / CURVES, curves.to_json())
    write_whole(out / MARKDOWN, render_curves(curves))
    for rule in (PROVED, PLAIN):
        write_whole(out / f"local-{rule}.svg", draw_curves(curves, rule))
    print(f"wrote {out / CURVES}, {out / MARKDOWN} and two pictures")
