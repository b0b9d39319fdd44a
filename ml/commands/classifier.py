"""The commands of classifiers: train, export, evaluate."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.classifier.bundle import PRETRAINED
from ml.classifier.calibration import SiteRule
from ml.classifier.predictor import Predictor
from ml.commands.common import DataFolder, DeviceName, device_named, until_stopped
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import (
    ImageRecord,
    in_split,
    read_manifest,
    read_synthetic_manifest,
    real_images,
)
from ml.data.splits import Split
from ml.errors import XrayError
from ml.evaluation.results import EvaluationMetrics
from ml.options.classifier import BUNDLE_FOLDER, ClassifierEvaluationOptions, ClassifierOptions
from ml.reporting.format import interval, three
from ml.training.phases import enter_phase

BundleFolder = Annotated[Path, typer.Option("--bundle", help="The classifier's bundle.")]


@with_flags(ClassifierOptions, panel="Options of training")
def train_classifier_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="The run's folder; the same one resumes.")],
    synthetic: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of xray synthesize, to train on as well. Repeatable."),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Weights of xray export weights to start from; default: ImageNet."),
    ] = None,
    bundle_version: Annotated[
        str, typer.Option(help="Also export the bundle to OUT/bundle, with this version name.")
    ] = "",
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Train a classifier. Interrupted, the same command continues after the last whole epoch.

    SIGTERM and Ctrl-C end it after the batch in hand; the exit status is then 143 or 130.
    """
    from ml.classifier.training import train_classifier
    from ml.data.leaks import without_leaks
    from ml.training.distributed import join_process_group

    options, place = ClassifierOptions(**given), device_named(device)
    records = read_manifest(data)
    for folder in synthetic or []:
        records += read_synthetic_manifest(folder)
    records = without_leaks(records, options.leave_out)
    with until_stopped() as should_stop:
        train_classifier(
            records,
            out,
            options,
            device=place,
            start_from=start_from,
            on_tick=print_epoch,
            should_stop=should_stop,
        )
    if not join_process_group(place).is_first:
        return
    if bundle_version:
        _make_bundle(records, out, bundle_version)
    else:
        print(f"trained: export it with xray export classifier --run {out} --out FOLDER")


def _make_bundle(records: list[ImageRecord], run: Path, version: str) -> None:
    """The bundle in the run's own folder, unless an earlier call made it."""
    from ml.classifier.export import export_run, is_bundle_of
    from ml.classifier.trained_run import load_run

    bundle = run / BUNDLE_FOLDER
    if not is_bundle_of(bundle, run, version):
        enter_phase(run, "measuring")
        card = export_run(records, load_run(run), bundle, version=version)
        _print_metrics(card.metrics)
    print(f"trained: the bundle of version {version} is in {bundle}")


def print_epoch(row: dict[str, float]) -> None:
    """Print a finished epoch in one line."""
    print(
        f"epoch {row['epoch']:.0f}: loss {row['train_loss']:.3f}, on validation "
        f"loss {row['validation_loss']:.3f}, accuracy {row['validation_accuracy']:.3f}, "
        f"macro AUROC {row['validation_macro_auroc']:.3f} ({row['seconds']:.0f} s)",
        flush=True,
    )


def export_classifier_command(
    data: DataFolder,
    run: Annotated[
        list[Path],
        typer.Option(
            help="The training run's folder. Repeated: the average of trainings of several seeds."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    version: Annotated[
        str, typer.Option("--bundle-version", help="Name of this model version.")
    ] = "1",
    sites: Annotated[
        Path | None,
        typer.Option(
            help="Folder of xray evaluate sites: fit the thresholds on its left-out sites."
        ),
    ] = None,
    limitation: Annotated[
        list[str] | None,
        typer.Option(help="A sentence to stand first among the card's limitations. Repeatable."),
    ] = None,
) -> None:
    """Calibrate a trained classifier, export it to ONNX and evaluate it on the test split."""
    from ml.classifier.averaging import load_average
    from ml.classifier.export import export_run
    from ml.data.leaks import without_leaks

    trained = load_average(run)
    options = trained.options
    rule = _site_rule(sites, options) if sites else None
    records = without_leaks(real_images(read_manifest(data)), options.leave_out)
    card = export_run(
        records, trained, out, version=version, rule=rule, limitations=limitation or []
    )
    _print_metrics(card.metrics)


def _site_rule(sites: Path, options: ClassifierOptions) -> SiteRule:
    """The thresholds fitted on left-out sites, after saying how much they answer there."""
    from ml.evaluation.site_calibration import fit_site_rule, read_left_out

    rule = fit_site_rule(read_left_out(sites, options))
    for label, threshold in rule.by_label.items():
        print(f"threshold of {label}: " + (f"{threshold:.3f}" if threshold <= 1 else "never"))
    for site, answered in rule.answered.items():
        print(f"{site}, left out: {answered:.1%} of the images have a definite prediction")
    return rule


def export_weights_command(
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    bundle: BundleFolder = PRETRAINED,
) -> None:
    """Write the weights of a bundle for torch, after checking that they reproduce its graph."""
    from ml.classifier.extract_weights import export_weights

    print(f"wrote {out}: SHA-256 {export_weights(bundle, out)}")


@with_flags(ClassifierEvaluationOptions, panel="Options of the evaluation")
def evaluate_classifier_command(
    data: DataFolder,
    bundle: BundleFolder = PRETRAINED,
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and report.html.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the training run, for its curves in the report.")
    ] = None,
    **given: Any,
) -> None:
    """Evaluate a classifier on the test split of a data set, with 95 % intervals over patients."""
    from ml.data.loading import load_images
    from ml.evaluation.evaluate import (
        LEAST_PATIENTS_PER_SIDE,
        left_out_images,
        metrics_of,
        predict_images,
    )
    from ml.reporting.classifier_report import (
        describe,
        read_training_rows,
        write_classifier_evaluation,
    )

    if run and not out:
        raise XrayError("--run adds curves to the report. Give its folder with --out.")
    leave_out = ClassifierEvaluationOptions(**given).leave_out
    predictor = Predictor.load(bundle, threads=os.cpu_count() or 1)
    rows = read_training_rows(run, predictor.card) if run else []
    records = read_manifest(data)
    if leave_out:
        chosen, least_patients = left_out_images(predictor.card, records, leave_out), 1
    else:
        chosen, least_patients = in_split(records, Split.TEST), LEAST_PATIENTS_PER_SIDE
    images = load_images(
        chosen, predictor.card.input_size, title="reading images", classes=predictor.card.labels
    )
    predictions = predict_images(predictor, images)
    metrics = metrics_of(predictions, least_patients=least_patients)
    _print_metrics(metrics)
    if out:
        evaluation = describe(
            predictor.card, chosen, predictions, metrics, rows, leave_out=leave_out
        )
        write_classifier_evaluation(out, evaluation)
        print(f"wrote {out / 'metrics.json'} and {out / 'report.html'}")


def _print_metrics(metrics: EvaluationMetrics) -> None:
    table = Table("metric", "value", "95 % interval", "images")
    images, selective = str(metrics.images), metrics.selective
    table.add_row("accuracy", *interval(metrics.accuracy), images)
    table.add_row("macro AUROC", *interval(metrics.macro_auroc), images)
    table.add_row("calibration error", three(metrics.calibration_error), "", images)
    for label, one in metrics.per_class.items():
        for name, value in (("precision", one.precision), ("recall", one.recall), ("F1", one.f1)):
            table.add_row(f"{label} {name}", three(value), "", str(one.support))
    for row in metrics.within_source:
        name = f"AUROC in {row.source}: {row.positive} against {row.negative}"
        table.add_row(name, *interval(row.auroc), str(row.auroc.n))
    table.add_row("coverage", three(selective.coverage), "", images)
    confident = three(selective.accuracy_when_answering)
    table.add_row("accuracy of confident predictions", confident, "", "")
    Console().print(table)
