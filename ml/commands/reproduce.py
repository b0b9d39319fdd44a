"""`xray reproduce report`: repeat the 2021 report's experiment."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ml.commands.common import DataFolder, DeviceName, device_named
from ml.data.manifest import read_manifest
from ml.options.common import Precision


def reproduce_report_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of the results; the same one resumes.")],
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each network.")] = 8,
    precision: Annotated[
        Precision, typer.Option(help="bfloat16 is faster on hardware that supports it.")
    ] = "float32",
    device: DeviceName = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    limit: Annotated[
        int,
        typer.Option(min=0, hidden=True, help="Most images of a source and class, for a trial."),
    ] = 0,
) -> None:
    """Train the original report's classifier as it was and split by patient, and compare.

    Interrupted, the same command continues with the network that is not finished.
    """
    from ml.evaluation.reproduction import JSON, MARKDOWN, reproduce
    from ml.evaluation.reproduction_result import ReproductionOptions
    from ml.reporting.reproduction_report import accuracy_table, auroc_table

    options = ReproductionOptions(epochs=epochs, precision=precision, seed=seed, limit=limit)
    if limit:
        # Copies in about the report's proportion.
        options = replace(options, covid_images=5 * limit)
    found = reproduce(read_manifest(data), out, options, device=device_named(device))
    for head, rows in (accuracy_table(found), auroc_table(found)):
        table = Table(*head)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    print(f"wrote {out / JSON} and {out / MARKDOWN}")
