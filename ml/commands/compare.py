"""`xray compare`: two classifiers, or training with and without synthetic images."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import Predictor
from ml.commands.classifier import print_epoch
from ml.commands.common import DataFolder, DeviceName, device_named, until_stopped
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import read_manifest, read_synthetic_manifest
from ml.evaluation.ablation_result import AblationResult
from ml.evaluation.comparison_report import ComparisonReport, ImagePrediction
from ml.options.classifier import AblationOptions
from ml.options.common import NoOptions
from ml.reporting.ablation_report import HTML
from ml.reporting.format import interval
from ml.reporting.page import with_interval

MAX_IMAGES_SHOWN = 20


@with_flags(NoOptions, panel="")
def compare_classifiers_command(
    data: DataFolder,
    bundle: Annotated[Path, typer.Option(help="Bundle of the candidate.")],
    reference: Annotated[
        Path, typer.Option(help="Bundle to compare it with; default: the released one.")
    ] = PRETRAINED,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.json.")] = None,
) -> None:
    """Compare two classifiers on the same test images.

    The candidate passes unless it is significantly worse (95 % interval of the difference), or does
    not reach the metrics of its card.
    """
    from ml.evaluation.compare import compare_classifiers, write_classifier_comparison
    from ml.evaluation.comparison_report import COMPARISON

    threads = os.cpu_count() or 1
    candidate, other = (Predictor.load(each, threads=threads) for each in (bundle, reference))
    comparison = compare_classifiers(candidate, other, data)
    _print_comparison(comparison)
    if out:
        write_classifier_comparison(out, comparison)
        print(f"wrote {out / COMPARISON}")


@with_flags(AblationOptions, panel="Options of every training")
def compare_conditions_command(
    data: DataFolder,
    synthetic: Annotated[list[Path], typer.Option(help="Folder of xray synthesize. Repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; the same one resumes.")],
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Compare training with synthetic images, with augmented copies, and with real images only.

    Every condition is trained with several seeds and measured on the same test images. If it is
    interrupted, the same command resumes the unfinished training. SIGTERM and Ctrl-C end it after
    the current batch; the exit status is then 143 or 130.
    """
    from ml.evaluation.ablation import JSON, compare_conditions

    options, place = AblationOptions(**given), device_named(device)
    records = read_manifest(data)
    made = [image for folder in synthetic for image in read_synthetic_manifest(folder)]
    with until_stopped() as should_stop:
        result = compare_conditions(
            records,
            made,
            out,
            options,
            device=place,
            on_tick=print_epoch,
            should_stop=should_stop,
        )
    if result:
        _print_conditions(result)
        print(f"wrote {out / JSON} and {out / HTML}")


def _print_conditions(result: AblationResult) -> None:
    console = Console()
    for setting in result.settings:
        where = setting.left_out or "the test images"
        table = Table("learned from", "accuracy", "macro AUROC", "difference", title=f"on {where}")
        for condition, own in setting.conditions.items():
            moved = with_interval(own.differences.macro_auroc) if own.differences else ""
            metrics = [with_interval(metric) for metric in (own.accuracy, own.macro_auroc)]
            table.add_row(result.conditions[condition].name, *metrics, moved)
        console.print(table)
    for sentence in result.sentences:
        console.print(sentence)


def _print_comparison(comparison: ComparisonReport) -> None:
    sides = (comparison.candidate, comparison.reference)
    ours, theirs = (side.metrics for side in sides)
    table = Table("metric", *(side.version for side in sides), "difference", "95 % interval")
    for name, one, other, difference in (
        ("accuracy", ours.accuracy, theirs.accuracy, comparison.differences.accuracy),
        ("macro AUROC", ours.macro_auroc, theirs.macro_auroc, comparison.differences.macro_auroc),
    ):
        table.add_row(name, with_interval(one), with_interval(other), *interval(difference))
    console = Console()
    console.print(table)
    console.print(f"{comparison.images} test images of {comparison.patients} patients")
    _print_changed(console, comparison)
    if comparison.card_reproduced is None:
        console.print("Its card was measured on other images, so its metrics were not checked.")
    for fault in comparison.faults:
        console.print(fault)
    console.print(f"Comparison: {'passed' if comparison.passed else 'failed'}")


def _print_changed(console: Console, comparison: ComparisonReport) -> None:
    changed = comparison.changed
    if changed:
        versions = (comparison.candidate.version, comparison.reference.version)
        images = Table("image", "true class", *versions)
        for image in changed[:MAX_IMAGES_SHOWN]:
            predictions = [_prediction(side) for side in (image.candidate, image.reference)]
            images.add_row(image.image, image.label, *predictions)
        console.print(images)
    more = max(0, len(changed) - MAX_IMAGES_SHOWN)
    console.print(f"changed predictions: {len(changed)}" + (f", {more} not shown" if more else ""))


def _prediction(side: ImagePrediction) -> str:
    text = f"{side.label} {side.probability:.2f}"
    return text if side.decision == side.label else f"{text}, {side.decision}"
