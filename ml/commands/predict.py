"""`xray predict`: classify images from the command line."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TextIO

import typer

from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import Predictor
from ml.classifier.upright import predict_upright
from ml.commands.classifier import (
    BundleFolder,
)
from ml.data.table_text import csv_line
from ml.errors import XrayError, counted
from ml.files import shown_path
from ml.imaging.decode import read_image
from ml.imaging.image_files import sort_files
from ml.imaging.image_warnings import warning_columns
from ml.imaging.orientation import OrientationCheck
from ml.imaging.preprocessing import BlankImage, standardise
from ml.imaging.types import UnreadableImage
from ml.progress import tracked

COLUMNS_BEFORE = ("path", "label", "decision")
# Between them stands a column for each class of the bundle.
COLUMNS_AFTER = (
    "reason",
    "ood_score",
    "model_version",
    "model_sha256",
    "warnings",
    "warning_codes",
    "error",
)


def predict(
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    csv_path: Annotated[
        Path | None, typer.Option("--csv", help="File to write; default: standard output.")
    ] = None,
    bundle: BundleFolder = PRETRAINED,
) -> None:
    """Predict the classes of images as CSV.

    An image that cannot be read gets a row with the error, and the exit status is 1.
    """
    predictor = Predictor.load(bundle, threads=os.cpu_count() or 1)
    check = OrientationCheck.load()
    images = list(_images(paths))
    failed = 0
    with _output(csv_path) as file:
        columns = _columns(predictor)
        file.write(csv_line(columns))
        for path in tracked(images, "predicting"):
            row = _answer(predictor, check, path)
            failed += bool(row["error"])
            file.write(csv_line([row[name] for name in columns]))
    if failed:
        raise XrayError(
            f"{failed} of {counted(len(images), 'image')} could not be read. See the column error."
        )


def _images(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from images_in(path)
        elif path.is_file():
            yield path
        else:
            raise XrayError(f"There is no file or folder {shown_path(path)}.")


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by their contents; names on standard error what is left out."""
    files = sort_files(folder)
    if not files.images and not files.left_out:
        raise XrayError(f"{shown_path(folder)} is empty. Choose a folder of X-ray images.")
    if files.left_out:
        print(f"skipped {counted(len(files.left_out), 'file')}:", file=sys.stderr)
    for path, reason in files.left_out:
        # A name may hold anything, line ends included.
        print(f"  {shown_path(path.relative_to(folder))!r}: {reason}", file=sys.stderr)
    if not files.images:
        raise XrayError(
            f"There is no image in {shown_path(folder)}. Choose a folder of X-ray images."
        )
    return files.images


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """The file, complete or not at all; or standard output."""
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that cannot write a name shows its bytes, and the table continues.
            sys.stdout.reconfigure(errors="backslashreplace")
        yield sys.stdout
        return
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", newline="", encoding="utf-8") as file:
            yield file
        partial.replace(path)
    except OSError as problem:
        raise XrayError(
            f"Cannot write {shown_path(path)}: {problem.strerror or problem}. Give another --csv."
        ) from problem
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _columns(predictor: Predictor) -> tuple[str, ...]:
    return (*COLUMNS_BEFORE, *predictor.card.labels, *COLUMNS_AFTER)


def _answer(predictor: Predictor, check: OrientationCheck, path: Path) -> dict[str, str]:
    size = predictor.card.input_size
    try:
        image = read_image(path.read_bytes(), shortest=2 * size)
        square = standardise(image.pixels, size)
        answer, warnings = predict_upright(predictor, check, square)
    except (UnreadableImage, BlankImage, OSError) as problem:
        return dict.fromkeys(_columns(predictor), "") | {
            "path": shown_path(path),
            "error": str(problem),
        }
    codes, texts = warning_columns((*image.warnings, *warnings))
    return {
        "path": shown_path(path),
        "label": answer.label,
        "decision": answer.decision,
        **{label: f"{value:.6f}" for label, value in answer.probabilities.items()},
        "reason": answer.reason or "",
        "ood_score": f"{answer.ood_score:.4f}",
        "model_version": predictor.card.version,
        "model_sha256": predictor.card.sha256,
        "warnings": texts,
        "warning_codes": codes,
        "error": "",
    }
