"""Trainings of the leave-site-out measurement: one classifier for each fold, resumable."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ml.classifier.export import export_run
from ml.classifier.inputs import InputCache, load_whole
from ml.classifier.predictor import UNCERTAIN, Predictor
from ml.classifier.trained_run import load_run
from ml.classifier.training import train_classifier
from ml.data.leaks import without_leaks
from ml.data.manifest import ImageRecord, in_split, labels_of, real_images
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, XrayError
from ml.evaluation.leave_site_out import Fold, Plan, SitesReport, measure_sites, plan_folds
from ml.evaluation.site_statistics import SitePredictions
from ml.files import write_whole
from ml.json_model import InvalidJson, JsonModel
from ml.options.classifier import ClassifierOptions
from ml.reporting.sites_report import render_sites
from ml.training.run_folder import CHECKPOINT, fingerprint

REPORT, MARKDOWN, FOLDS = "sites.json", "sites.md", "folds"
PREDICTIONS, BUNDLE = "predictions.json", "bundle"
OnTick = Callable[[dict[str, float]], None]
ShouldStop = Callable[[], bool]
BATCH = 64


class StoredPredictions(JsonModel):
    """Predictions of one fold, and what they came from.

    Attributes:
        options: of the training.
        learned_sha256: fingerprint of the images that the training was given.
        measured_sha256: of the images that are predicted.
    """

    options: ClassifierOptions
    learned_sha256: str
    measured_sha256: str
    labels: list[str]
    truth: list[str]
    sites: list[str]
    patients: list[str]
    probabilities: list[list[float]]
    definite: list[bool]

    def predictions(self) -> SitePredictions:
        """The same as arrays."""
        return SitePredictions(
            tuple(self.labels),
            np.array(self.truth, dtype=np.str_),
            np.array(self.sites, dtype=np.str_),
            np.array(self.patients, dtype=np.str_),
            np.array(self.probabilities, dtype=np.float64).reshape(-1, len(self.labels)),
            np.array(self.definite, dtype=np.bool_),
        )


def measure_classifier_sites(
    records: Sequence[ImageRecord],
    others: Sequence[ImageRecord],
    out: Path,
    options: ClassifierOptions,
    *,
    device: torch.device,
    on_fold: Callable[[Fold, int], None] | None = None,
    on_tick: OnTick | None = None,
    should_stop: ShouldStop | None = None,
) -> SitesReport | None:
    """Train one classifier for each fold, measure it there, and write `sites.json` and `sites.md`.

    Every classifier is exported as it would be served: calibrated on validation patients of the
    sites that it learned from. Interrupted, the same call continues with the training in hand.

    Args:
        records: images of a data set; synthetic ones are left aside.
        others: images of other findings. Those of a left-out site are predicted by the classifier
            without this site, all others by the one that leaves out no site.
        out: folder of the results, with a folder for each fold.
        options: of every training; `leave_out` is empty.
        device: where to compute.
        on_fold: called with each fold that is trained and how many there are.
        on_tick: called with the metrics of every epoch.
        should_stop: asked after every batch; a true answer stops at the last whole epoch.

    Returns:
        What `sites.json` says; None where it was stopped.

    Raises:
        DataError: there are too few sites, or images cannot be read, or others are of a class.
        CheckpointError: the folder holds trainings with other options or other images.
        XrayError: the options leave something out already.
    """
    if options.leave_out:
        raise XrayError("Each site is left out in turn. Remove --leave-out.")
    real = real_images(records)
    plan = plan_folds(real)
    if known := sorted({image.label for image in others} & set(plan.labels)):
        raise DataError(
            f"The images of other findings have the label {', '.join(known)}. Use labels that the "
            "data set does not have."
        )
    found: dict[Fold, SitePredictions] = {}
    cache = InputCache()
    for fold in plan.folds:
        if on_fold:
            on_fold(fold, len(plan.folds))
        own = replace(options, leave_out=",".join(fold.left_out))
        measured = _measured(plan, fold, real, others)
        stored = _predict_fold(
            real, measured, out / FOLDS / fold.name, own, device, on_tick, should_stop, cache
        )
        if stored is None:
            return None
        found[fold] = stored.predictions()
    report = measure_sites(plan, found.__getitem__)
    write_whole(out / MARKDOWN, render_sites(report))
    write_whole(out / REPORT, report.to_json())
    return report


def _measured(
    plan: Plan, fold: Fold, real: Sequence[ImageRecord], others: Sequence[ImageRecord]
) -> list[ImageRecord]:
    """The images that a fold's classifier predicts."""
    if not fold.left_out:
        elsewhere = [image for image in others if image.site not in plan.sites]
        return [*in_split(real, Split.TEST), *elsewhere]
    # A fold's sites by their name; a source of the same name is left out as well, not measured.
    own = [image for image in real if image.site in fold.left_out]
    there = [image for image in others if image.site in fold.left_out]
    return [*own, *there]


def _predict_fold(
    real: Sequence[ImageRecord],
    measured: Sequence[ImageRecord],
    folder: Path,
    options: ClassifierOptions,
    device: torch.device,
    on_tick: OnTick | None,
    should_stop: ShouldStop | None,
    cache: InputCache,
) -> StoredPredictions | None:
    """Train, or continue, one fold's classifier and predict; stored ones are read again."""
    shas = {"learned_sha256": fingerprint(real), "measured_sha256": fingerprint(measured)}
    path = folder / PREDICTIONS
    if path.exists():
        return _read_stored(path, options, shas)
    records = without_leaks(real, options.leave_out)
    train_classifier(
        records,
        folder,
        options,
        device=device,
        on_tick=on_tick,
        should_stop=should_stop,
        cache=cache,
    )
    if should_stop and should_stop():
        return None
    export_run(records, load_run(folder), folder / BUNDLE, version=folder.name, cache=cache)
    predictor = Predictor.load(folder / BUNDLE, threads=torch.get_num_threads())
    stored = _predict(predictor, measured, options, shas, cache)
    write_whole(path, stored.to_json())
    # The best weights stay; what a training is continued from is five times as large.
    (folder / CHECKPOINT).unlink()
    return stored


def _read_stored(
    path: Path, options: ClassifierOptions, shas: Mapping[str, str]
) -> StoredPredictions:
    try:
        stored = StoredPredictions.from_json(path.read_bytes())
    except InvalidJson as problem:
        raise CheckpointError(
            f"{path} is damaged: {problem}. Delete it to predict again."
        ) from None
    if stored.options != options or any(getattr(stored, key) != sha for key, sha in shas.items()):
        raise CheckpointError(
            f"{path.parent} has other options or images. Give the same ones, or another --out."
        )
    return stored


def _predict(
    predictor: Predictor,
    records: Sequence[ImageRecord],
    options: ClassifierOptions,
    shas: Mapping[str, str],
    cache: InputCache,
) -> StoredPredictions:
    """Predict images of any label."""
    loaded = load_whole(
        records,
        options,
        title="reading images left out",
        classes=labels_of(records),
        cache=cache,
    )
    given = [
        prediction
        for start in range(0, len(loaded), BATCH)
        for prediction in predictor.predict_batch(loaded.images[start : start + BATCH])
    ]
    return StoredPredictions(
        options=options,
        learned_sha256=shas["learned_sha256"],
        measured_sha256=shas["measured_sha256"],
        labels=list(predictor.card.labels),
        truth=[image.label for image in loaded.records],
        sites=[image.site for image in loaded.records],
        patients=[image.patient for image in loaded.records],
        probabilities=[list(one.probabilities.values()) for one in given],
        definite=[one.decision != UNCERTAIN for one in given],
    )
