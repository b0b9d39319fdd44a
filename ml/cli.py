"""The models' commands: data, train, export, evaluate, compare, reproduce, predict."""

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ml.bundle import PRETRAINED, read_bundle
from ml.classifier_cli import (
    BundleFolder,
    evaluate_classifier_command,
    export_classifier_command,
    export_weights_command,
    train_classifier_command,
)
from ml.cli_common import DataFolder, DeviceName, device_named
from ml.comparing_cli import compare_arms_command, compare_classifiers_command
from ml.data import read_manifest
from ml.data_cli import data_app
from ml.errors import XrayError
from ml.films import UnreadableFilm, read_film
from ml.gan.cli import train_gan_command
from ml.gan.measuring_cli import compare_gans_command, evaluate_gan_command
from ml.gan.release_cli import export_generator_command
from ml.gan.synthesis_cli import synthesize_command
from ml.labels import LABELS
from ml.model_card import render_model_card
from ml.options import PRECISIONS
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
train_app.command("classifier")(train_classifier_command)
train_app.command("gan")(train_gan_command)
app.command("synthesize")(synthesize_command)
export_app.command("classifier")(export_classifier_command)
export_app.command("weights")(export_weights_command)
export_app.command("generator")(export_generator_command)
evaluate_app.command("classifier")(evaluate_classifier_command)
evaluate_app.command("gan")(evaluate_gan_command)
compare_app.command("arms")(compare_arms_command)
compare_app.command("classifiers")(compare_classifiers_command)
compare_app.command("gans")(compare_gans_command)

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


@reproduce_app.command("report")
def reproduce_report_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of the results; the same one resumes.")],
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each network.")] = 8,
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 where the processor has it: faster.")
    ] = PRECISIONS[0],
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

    if precision not in PRECISIONS:
        raise XrayError(f"unknown precision {precision!r}, expected {' or '.join(PRECISIONS)}")
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
