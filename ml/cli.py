"""The models' commands: data, train, export, evaluate, compare, reproduce, predict."""

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ml.bundle import PRETRAINED, finite, read_bundle
from ml.cli_common import DataFolder, DeviceName, device_named, until_stopped
from ml.data import Split, in_split, read_manifest, read_synthetic_manifest, real_films
from ml.data_cli import data_app
from ml.errors import XrayError
from ml.figures import interval, three
from ml.films import UnreadableFilm, read_film
from ml.gan.cli import train_gan_command
from ml.gan.measuring_cli import compare_gans_command, evaluate_gan_command
from ml.gan.release_cli import export_generator_command
from ml.gan.synthesis_cli import synthesize_command
from ml.labels import LABELS
from ml.model_card import render_model_card
from ml.options import ClassifierOptions
from ml.predictor import Predictor
from ml.transforms import BlankFilm, standardise

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Chest X-ray screening: data, models, predictions and the web application.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train models.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure models.")
compare_app = typer.Typer(no_args_is_help=True, help="Compare models.")
export_app = typer.Typer(no_args_is_help=True, help="Make releases of trained models.")
reproduce_app = typer.Typer(no_args_is_help=True, help="Repeat what others published.")
app.add_typer(data_app, name="data")
app.add_typer(train_app, name="train")
app.add_typer(export_app, name="export")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(compare_app, name="compare")
app.add_typer(reproduce_app, name="reproduce")
train_app.command("gan")(train_gan_command)
app.command("synthesize")(synthesize_command)
export_app.command("generator")(export_generator_command)
evaluate_app.command("gan")(evaluate_gan_command)
compare_app.command("gans")(compare_gans_command)

DEFAULTS = ClassifierOptions()
FILM_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".dcm", ".dicom"}
COLUMNS = (
    "path",
    "label",
    "decision",
    *LABELS,
    "reason",
    "novelty",
    "model_version",
    "model_sha256",
    "error",
)

BundleFolder = Annotated[Path, typer.Option("--bundle", help="The classifier's bundle.")]


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(help="Films, or folders of films.")],
    csv_path: Annotated[
        Path | None, typer.Option("--csv", help="Where to write; default: standard output.")
    ] = None,
    bundle: BundleFolder = PRETRAINED,
) -> None:
    """Answer films. A film that cannot be read gets a row with the error; the exit status is 1."""
    predictor = Predictor.load(bundle, threads=os.cpu_count() or 1)
    films = list(_films(paths))
    failed = 0
    with _output(csv_path) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        console = Console(stderr=True)
        for path in track(films, "answering films", console=console, transient=True):
            row = _answer(predictor, path)
            failed += bool(row["error"])
            writer.writerow(row)
    if failed:
        raise XrayError(f"{failed} of {len(films)} film(s) could not be read, see the error column")


def _films(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in FILM_SUFFIXES)
            if not found:
                raise XrayError(f"no film in {path}: expected files ending in .png, .jpg, .dcm ...")
            yield from found
        elif path.is_file():
            yield path
        else:
            raise XrayError(f"no such file or folder: {path}")


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """The file, complete or not at all; or standard output."""
    if path is None:
        yield sys.stdout
        return
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _answer(predictor: Predictor, path: Path) -> dict[str, str]:
    size = predictor.card.input_size
    try:
        pixels = read_film(path.read_bytes(), shortest=2 * size).pixels
        answer = predictor.predict(standardise(pixels, size))
    except (UnreadableFilm, BlankFilm, OSError) as problem:
        return dict.fromkeys(COLUMNS, "") | {"path": str(path), "error": str(problem)}
    return {
        "path": str(path),
        "label": answer.label,
        "decision": answer.decision,
        **{label: f"{value:.6f}" for label, value in answer.probabilities.items()},
        "reason": answer.reason or "",
        "novelty": f"{answer.novelty:.4f}",
        "model_version": predictor.card.version,
        "model_sha256": predictor.card.sha256,
        "error": "",
    }


@app.command("card")
def card_command(
    bundle: BundleFolder = PRETRAINED,
    generator: Annotated[
        Path | None, typer.Option(help="A generator's file, for its card instead.")
    ] = None,
) -> None:
    """Print a bundle's or a generator's card as Markdown."""
    if generator:
        from ml.gan.generator_file import load_generator
        from ml.gan.release import render_generator_card

        print(render_generator_card(load_generator(generator)), end="")
        return
    print(render_model_card(read_bundle(bundle)[0]), end="")


@train_app.command("classifier")
def train_classifier_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="The run's folder; the same one resumes.")],
    network: Annotated[str, typer.Option(help="The network's name.")] = DEFAULTS.network,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs.")] = DEFAULTS.epochs,
    small_epochs: Annotated[
        int, typer.Option(min=0, help="First epochs on smaller films, twice as fast.")
    ] = DEFAULTS.small_epochs,
    batch_size: Annotated[int, typer.Option(min=2, help="Films per step.")] = DEFAULTS.batch_size,
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="Highest step size.")
    ] = DEFAULTS.learning_rate,
    patience: Annotated[
        int, typer.Option(min=1, help="Epochs without a better validation loss before stopping.")
    ] = DEFAULTS.patience,
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 where the processor has it: faster.")
    ] = DEFAULTS.precision,
    device: DeviceName = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of all randomness.")] = DEFAULTS.seed,
    small_size: Annotated[
        int, typer.Option(min=32, help="Side of the smaller films, in pixels.")
    ] = DEFAULTS.small_size,
    weight_decay: Annotated[
        float, typer.Option(min=0.0, help="Pull of weights to zero.")
    ] = DEFAULTS.weight_decay,
    label_smoothing: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Share of the label given to the others.")
    ] = DEFAULTS.label_smoothing,
    ema_decay: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share kept per step of the averaged weights.")
    ] = DEFAULTS.ema_decay,
    leave_out: Annotated[
        str, typer.Option(help="A source to learn nothing from, as an unknown hospital.")
    ] = DEFAULTS.leave_out,
    synthetic: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of xray synthesize to train with too; may be repeated."),
    ] = None,
    synthetic_share: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Chance that a film drawn of a class that has such is synthetic."
        ),
    ] = DEFAULTS.synthetic_share,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Weights of xray export weights to start from, not ImageNet's."),
    ] = None,
) -> None:
    """Train a classifier. Interrupted, the same command continues after the last whole epoch.

    SIGTERM and Ctrl-C end it after the batch in hand; the exit status is then 143 or 130.
    """
    from ml.classifier import train_classifier
    from ml.leaks import without_leaks
    from ml.processes import join_processes

    _require_precision(precision)
    options = ClassifierOptions(
        network=network,
        epochs=epochs,
        small_epochs=small_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        precision=precision,
        seed=seed,
        small_size=small_size,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        ema_decay=ema_decay,
        leave_out=leave_out,
        synthetic_share=synthetic_share,
    )
    records = read_manifest(data)
    for folder in synthetic or []:
        records += read_synthetic_manifest(folder)
    with until_stopped() as should_stop:
        train_classifier(
            without_leaks(records, leave_out),
            out,
            options,
            device=device_named(device),
            start_from=start_from,
            on_tick=_print_epoch,
            should_stop=should_stop,
        )
    if join_processes(device_named(device)).is_first:
        print(f"trained: make its bundle with xray export classifier --run {out} --out FOLDER")


def _require_precision(name: str) -> None:
    if name not in ("float32", "bfloat16"):
        raise XrayError(f"unknown precision {name!r}, expected float32 or bfloat16")


def _print_epoch(row: dict[str, float]) -> None:
    print(
        f"epoch {row['epoch']:.0f}: loss {row['train_loss']:.3f}, on validation "
        f"loss {row['validation_loss']:.3f}, accuracy {row['validation_accuracy']:.3f}, "
        f"macro AUROC {row['validation_macro_auroc']:.3f} ({row['seconds']:.0f} s)",
        flush=True,
    )


@export_app.command("classifier")
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


@export_app.command("weights")
def export_weights_command(
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    bundle: BundleFolder = PRETRAINED,
) -> None:
    """Write a bundle's weights for torch, read out of its graph and proved equal to it."""
    from ml.export import export_weights

    print(f"wrote {out}: SHA-256 {export_weights(bundle, out)}")


@evaluate_app.command("classifier")
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


@reproduce_app.command("report")
def reproduce_report_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of the results; the same one resumes.")],
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each network.")] = 8,
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 where the processor has it: faster.")
    ] = DEFAULTS.precision,
    device: DeviceName = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of all randomness.")] = 0,
    limit: Annotated[
        int, typer.Option(min=0, hidden=True, help="Most films of a source and class, for a trial.")
    ] = 0,
) -> None:
    """Train the original report's classifier as it was and split by patient, and compare.

    Interrupted, the same command continues with the network that is not finished.
    """
    from ml.reproduction import ReproductionOptions, accuracy_table, auroc_table, reproduce

    _require_precision(precision)
    options = ReproductionOptions(epochs=epochs, precision=precision, seed=seed, limit=limit)
    if limit:
        # Copies in about the report's proportion.
        options = replace(options, covid_films=5 * limit)
    found = reproduce(read_manifest(data), out, options, device=device_named(device))
    for head, rows in (accuracy_table(found), auroc_table(found)):
        table = Table(*head)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    print(f"wrote {out / 'reproduction.json'} and {out / 'reproduction.md'}")
