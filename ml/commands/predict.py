"""`xray predict`: classify images from the command line."""

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import track

from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import Predictor
from ml.classifier.upright import predict_upright
from ml.commands.classifier import (
    BundleFolder,
)
from ml.errors import XrayError, counted
from ml.imaging.decode import has_image_signature, read_image
from ml.imaging.orientation import OrientationCheck
from ml.imaging.preprocessing import BlankImage, standardise
from ml.imaging.types import IMAGE_WARNINGS, UnreadableImage

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".dcm", ".dicom"}
COLUMNS_BEFORE = ("path", "label", "decision")
# Between them stands a column for each class of the bundle.
COLUMNS_AFTER = ("reason", "ood_score", "model_version", "model_sha256", "warnings", "error")


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
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        console = Console(stderr=True)
        for path in track(images, "answering images", console=console, transient=True):
            row = _answer(predictor, check, path)
            failed += bool(row["error"])
            writer.writerow(row)
    if failed:
        raise XrayError(
            f"{failed} of {counted(len(images), 'image')} could not be read. See the column error."
        )


def _images(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from _images_in(path)
        elif path.is_file():
            yield path
        else:
            raise XrayError(f"There is no file or folder {path}.")


def _images_in(folder: Path) -> list[Path]:
    """The images of a folder by their contents; names on standard error what is left out."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = [path for path in files if not _is_leftover(path) and _begins_as_image(path)]
    if not found:
        raise XrayError(f"There is no image in {folder}. Choose a folder of X-ray images.")
    skipped = [path for path in files if path not in set(found)]
    if skipped:
        names = ", ".join(repr(path.name) for path in skipped)
        print(f"skipped {len(skipped)} files that are no images: {names}", file=sys.stderr)
    return found


def _is_leftover(path: Path) -> bool:
    """Whether a file is one that systems and CD exports put beside images."""
    return path.name.startswith(".") or path.name == "DICOMDIR" or "__MACOSX" in path.parts


def _begins_as_image(path: Path) -> bool:
    # A damaged image has lost its signature and still gets a row with its error.
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    with path.open("rb") as file:
        return has_image_signature(file.read(512))


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """The file, complete or not at all; or standard output."""
    if path is None:
        yield sys.stdout
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            yield file
        partial.replace(path)
    finally:
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
        return dict.fromkeys(_columns(predictor), "") | {"path": str(path), "error": str(problem)}
    return {
        "path": str(path),
        "label": answer.label,
        "decision": answer.decision,
        **{label: f"{value:.6f}" for label, value in answer.probabilities.items()},
        "reason": answer.reason or "",
        "ood_score": f"{answer.ood_score:.4f}",
        "model_version": predictor.card.version,
        "model_sha256": predictor.card.sha256,
        "warnings": " ".join(
            f"Warning: {IMAGE_WARNINGS[code]}" for code in (*image.warnings, *warnings)
        ),
        "error": "",
    }
