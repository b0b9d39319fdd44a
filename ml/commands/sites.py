"""`xray evaluate sites`: train without each site in turn, and measure there."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.commands.classifier import print_epoch
from ml.commands.common import DataFolder, DeviceName, device_named, until_stopped
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import read_manifest
from ml.option_fields import validated_options
from ml.options.classifier import ClassifierOptions


@with_flags(ClassifierOptions, panel="Options of every training")
def evaluate_sites_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of the results; the same one resumes.")],
    other: Annotated[
        list[Path] | None,
        typer.Option(help="Data set of another finding, such as tuberculosis. Repeatable."),
    ] = None,
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Train a classifier without each site, and without pairs of sites, and measure it there.

    The same command continues an interrupted measurement. SIGTERM and Ctrl-C end it after the
    batch in hand; the exit status is then 143 or 130.
    """
    from ml.evaluation.site_trainings import MARKDOWN, REPORT, measure_classifier_sites
    from ml.reporting.sites_report import HEAD, site_rows

    options = validated_options(ClassifierOptions, given)
    records = read_manifest(data)
    others = [image for folder in other or [] for image in read_manifest(folder)]
    with until_stopped() as should_stop:
        report = measure_classifier_sites(
            records,
            others,
            out,
            options,
            device=device_named(device),
            on_fold=lambda fold, count: print(f"{fold.name}, one of {count} trainings", flush=True),
            on_tick=print_epoch,
            should_stop=should_stop,
        )
    if report:
        table = Table(*HEAD)
        for row in site_rows(report):
            table.add_row(*row)
        Console().print(table)
        print(f"wrote {out / REPORT} and {out / MARKDOWN}")
