"""The commands of classifiers: train, export, evaluate."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.bundle import PRETRAINED, finite
from ml.cli_common import DataFolder, DeviceName, device_named, until_stopped
from ml.data import Split, in_split, read_manifest, read_synthetic_manifest, real_films
from ml.errors import XrayError
from ml.figures import interval, three
from ml.flags import with_flags
from ml.options import ClassifierOptions
from ml.predictor import Predictor

BundleFolder = Annotated[Path, typer.Option("--bundle", help="The classifier's bundle.")]


@with_flags(ClassifierOptions, panel="Options of training")
def train_classifier_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="The run's folder; the same one resumes.")],
    synthetic: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of xray synthesize to train with too; may be repeated."),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Weights of xray export weights to start from, not ImageNet's."),
    ] = None,
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Train a classifier. Interrupted, the same command continues after the last whole epoch.

    SIGTERM and Ctrl-C end it after the batch in hand; the exit status is then 143 or 130.
    """
    from ml.classifier import train_classifier
    from ml.leaks import without_leaks
    from ml.processes import join_processes

    options = ClassifierOptions(**given)
    records = read_manifest(data)
    for folder in synthetic or []:
        records += read_synthetic_manifest(folder)
    with until_stopped() as should_stop:
        train_classifier(
            without_leaks(records, options.leave_out),
            out,
            options,
            device=device_named(device),
            start_from=start_from,
            on_tick=_print_epoch,
            should_stop=should_stop,
        )
    if join_processes(device_named(device)).is_first:
        print(f"trained: make its bundle with xray export classifier --run {out} --out FOLDER")


def _print_epoch(row: dict[str, float]) -> None:
    print(
        f"epoch {row['epoch']:.0f}: loss {row['train_loss']:.3f}, on validation "
        f"loss {row['validation_loss']:.3f}, accuracy {row['validation_accuracy']:.3f}, "
        f"macro AUROC {row['validation_macro_auroc']:.3f} ({row['seconds']:.0f} s)",
        flush=True,
    )


def export_classifier_command(
    data: DataFolder,
    run: Annotated[Path, typer.Option(help="The training run's folder.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder.")],
    version: Annotated[str, typer.Option(help="Name of this model version.")] = "1",
) -> None:
    """Calibrate a trained classifier, export it to ONNX and measure it on the test split."""
    from ml.classifier import load_run, without_source
    from ml.export import Splits, export_bundle
    from ml.filmset import load_films
    from ml.leaks import without_leaks
    from ml.networks import BACKBONES

    trained = load_run(run)
    options = trained.options
    # What was kept from training calibrates nothing either, and no synthetic film does.
    learned = without_leaks(real_films(read_manifest(data)), options.leave_out)
    records = without_source(learned, options.leave_out)
    size = BACKBONES[options.network].size
    train, validation, test = (
        load_films(in_split(records, part), size, title=f"reading {part} films") for part in Split
    )
    card = export_bundle(
        trained.network,
        Splits(train, validation, test),
        out,
        version=version,
        options=options,
        synthetic=trained.synthetic,
        started_from=trained.started_from,
    )
    _print_figures(card.as_json()["figures"])


def export_weights_command(
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    bundle: BundleFolder = PRETRAINED,
) -> None:
    """Write a bundle's weights for torch, read out of its graph and proved equal to it."""
    from ml.export import export_weights

    print(f"wrote {out}: SHA-256 {export_weights(bundle, out)}")


def evaluate_classifier_command(
    data: DataFolder,
    bundle: BundleFolder = PRETRAINED,
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and report.html.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The training run's folder, for curves in the report.")
    ] = None,
    leave_out: Annotated[
        str, typer.Option(help="Measure on all films of this source, kept from training.")
    ] = "",
) -> None:
    """Measure a bundle on the data set's test split, with intervals over patients."""
    from ml.evaluation import LEAST_PATIENTS_PER_SIDE, answer_films, figures_of, left_out_films
    from ml.filmset import load_films
    from ml.report import describe, read_training_rows, write_evaluation

    if run and not out:
        raise XrayError("the curves of --run stand in the report: give its folder with --out")
    predictor = Predictor.load(bundle, threads=os.cpu_count() or 1)
    rows = read_training_rows(run, predictor.card) if run else []
    records = read_manifest(data)
    if leave_out:
        chosen, least_patients = left_out_films(predictor.card, records, leave_out), 1
    else:
        chosen, least_patients = in_split(records, Split.TEST), LEAST_PATIENTS_PER_SIDE
    films = load_films(chosen, predictor.card.input_size, title="reading films")
    answers = answer_films(predictor, films)
    figures = figures_of(answers, least_patients=least_patients)
    _print_figures(finite(asdict(figures)))
    if out:
        evaluation = describe(predictor.card, chosen, answers, figures, rows, leave_out=leave_out)
        write_evaluation(out, evaluation)
        print(f"wrote {out / 'metrics.json'} and {out / 'report.html'}")


def _print_figures(figures: dict[str, Any]) -> None:
    table = Table("figure", "value", "95 % interval", "films")
    films, selective = str(figures["films"]), figures["selective"]
    for key, name in (("accuracy", "accuracy"), ("macro_auroc", "macro AUROC")):
        table.add_row(name, *interval(figures[key]), films)
    table.add_row("calibration error", three(figures["calibration_error"]), "", films)
    for label, one in figures["per_class"].items():
        for name in ("precision", "recall", "f1"):
            table.add_row(f"{label} {name}", three(one[name]), "", f"{one['support']:.0f}")
    for row in figures["within_source"]:
        name = f"AUROC in {row['source']}: {row['positive']} against {row['negative']}"
        table.add_row(name, *interval(row["auroc"]), str(row["auroc"]["n"]))
    table.add_row("share of films answered", three(selective["coverage"]), "", films)
    table.add_row("accuracy of those", three(selective["accuracy_when_answering"]), "", "")
    Console().print(table)
