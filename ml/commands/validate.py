"""`xray validate`: a classifier on the images of one clinic."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import Prediction, Predictor
from ml.classifier.upright import predict_upright
from ml.commands.classifier import BundleFolder
from ml.commands.options_to_flags import with_flags
from ml.commands.predict import images_in
from ml.data.manifest import MANIFEST, ImageRecord, in_split, read_manifest, real_images
from ml.data.splits import Split
from ml.errors import DataError
from ml.evaluation.drift import REFERENCE, DriftReference, read_reference, reference_of
from ml.evaluation.local_validation import validate_classifier
from ml.files import write_whole
from ml.imaging.decode import read_image
from ml.imaging.orientation import OrientationCheck
from ml.imaging.preprocessing import BlankImage, standardise
from ml.imaging.types import UnreadableImage
from ml.options.validation import ValidationOptions
from ml.progress import tracked
from ml.reporting.validation_report import (
    PAGE,
    VALIDATION,
    auroc_rows,
    estimate_rows,
    write_validation,
)


@with_flags(ValidationOptions, panel="What the clinic asks for")
def validate_command(
    data: Annotated[
        Path,
        typer.Option(help="Folder with a manifest.csv, or of images without labels."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for validation.json and report.html.")],
    bundle: BundleFolder = PRETRAINED,
    training_data: Annotated[
        Path | None,
        typer.Option(help="Data set of the classifier's training, to compare the images with."),
    ] = None,
    **given: Any,
) -> None:
    """Validate a classifier on a clinic's own images, and fit thresholds for it.

    Needs at least 50 labelled images or 200 without labels, and says what more would be needed.
    """
    predictor = Predictor.load(bundle, threads=os.cpu_count() or 1)
    labelled = (data / MANIFEST).is_file()
    records = real_images(read_manifest(data)) if labelled else unlabelled(data)
    reference = (
        _reference_from(predictor, training_data)
        if training_data
        else read_reference(bundle, predictor.card.sha256)
    )
    read, predictions, faults = predict_records(predictor, records)
    for fault in faults:
        print(f"not read: {fault}")
    report = validate_classifier(
        predictor.card,
        read,
        predictions,
        ValidationOptions(**given),
        labelled=labelled,
        unreadable=len(faults),
        reference=reference,
    )
    write_validation(out, report)
    if report.labelled:
        table = Table("", "", "", "")
        for row in (*auroc_rows(report), *estimate_rows(report)):
            table.add_row(*row)
        Console().print(table)
    for need in report.needs:
        print(f"Missing: {need}")
    print(f"wrote {out / VALIDATION} and {out / PAGE}")


def evaluate_reference_command(
    data: Annotated[Path, typer.Option(help="Data set of the classifier's training.")],
    bundle: BundleFolder = PRETRAINED,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: reference.json in the bundle.")
    ] = None,
) -> None:
    """Write the statistics that xray validate compares a clinic's images with.

    They are of the test split: images like those of the training, but not learned from.
    """
    predictor = Predictor.load(bundle, threads=os.cpu_count() or 1)
    reference = _reference_from(predictor, data)
    path = out or bundle / REFERENCE
    write_whole(path, reference.to_json())
    print(f"wrote {path}: statistics of {reference.images} images")


def _reference_from(predictor: Predictor, data: Path) -> DriftReference:
    known = [
        image
        for image in in_split(real_images(read_manifest(data)), Split.TEST)
        if image.label in predictor.card.labels
    ]
    _, predictions, _ = predict_records(predictor, known)
    return reference_of(predictor.card.sha256, predictions)


def unlabelled(folder: Path) -> list[ImageRecord]:
    """The images of a folder without a manifest, each as one of another patient."""
    return [
        ImageRecord(path=path, label="", source="local", patient=str(number))
        for number, path in enumerate(images_in(folder))
    ]


def predict_records(
    predictor: Predictor, records: list[ImageRecord]
) -> tuple[list[ImageRecord], list[Prediction], list[str]]:
    """Predict images as they are served, turned upright where needed.

    Returns:
        The images that could be read, their predictions, and a sentence for each other one.

    Raises:
        DataError: no image can be read.
    """
    check, size = OrientationCheck.load(), predictor.card.input_size
    read, predictions, faults = [], [], []
    for record in tracked(records, "predicting"):
        try:
            image = read_image(
                record.path.read_bytes(), shortest=2 * size, least_side=record.least_side
            )
            square = standardise(image.pixels, size)
        except (UnreadableImage, BlankImage, OSError) as problem:
            faults.append(f"{record.path}: {problem}")
            continue
        predictions.append(predict_upright(predictor, check, square)[0])
        read.append(record)
    if records and not read:
        raise DataError(f"None of {len(records)} images can be read. The first: {faults[0]}")
    return read, predictions, faults
