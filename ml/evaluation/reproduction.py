"""The original report's classifier by its own protocol, and what that protocol hides.

"Detection of COVID-19 through chest X-ray using WGAN-GP" (Mumbai, 2021) trained a small network on
COVID-19 images of one collection, enlarged by changed copies before the split, against the images
of children from one hospital. It is trained here twice: as reported, and on the same images split
by patient with copies of training images alone. Both networks are then measured on their own test
images, on images within one source, and on images of sources that they never saw.

Where the report is silent, this module chooses: the shares of the split are those of
`ml.data.manifest`, the weights are those of the epoch with the lowest validation loss, and Adam's
learning rate is 0.001.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ml.classifier.networks import ImageClassifier, backbone, build_classifier
from ml.classifier.sampling import require_all_classes
from ml.classifier.training import infer, to_unit
from ml.data.loading import ImageSet, ImageSplits, load_images
from ml.data.manifest import ImageRecord, in_split
from ml.data.splits import TEST_SHARE, VALIDATION_SHARE, Split
from ml.errors import CheckpointError, XrayError
from ml.evaluation import metrics
from ml.evaluation.evaluate import per_class_metrics, within_source
from ml.evaluation.report_augmentation import change_image
from ml.evaluation.reproduction_result import (
    CHILDREN,
    COLLECTION,
    CONDITIONS,
    LABELS,
    NETWORK,
    REPORTED,
    ConditionResult,
    EpochMetrics,
    MeasuredImages,
    ReproductionInputs,
    ReproductionOptions,
    ReproductionResult,
)
from ml.files import write_whole
from ml.progress import progress
from ml.reporting.reproduction_report import render_reproduction
from ml.training.run_folder import fingerprint

REPORTED_IMAGES = {(COLLECTION, "covid"), (CHILDREN, "pneumonia"), (CHILDREN, "normal")}
UNSEEN_IMAGES = {
    ("cxnet", "covid"),
    ("figure1", "covid"),
    ("nih", "pneumonia"),
    ("nih", "normal"),
    ("radiography", "normal"),
}
# The first layer's output for 64 images of 256 px would take half a gigabyte.
INFERENCE_BATCH = 16
JSON, MARKDOWN = "reproduction.json", "reproduction.md"


@dataclass(frozen=True, slots=True)
class _Images:
    """All images of a reproduction."""

    reported: list[ImageRecord]
    strangers: list[ImageRecord]  # the collection's images of patients without COVID-19
    unseen: list[ImageRecord]

    def load(self) -> tuple[ImageSet, ImageSet, ImageSet]:
        size = backbone(NETWORK).size
        return (
            load_images(self.reported, size, title="reading the report's images", classes=LABELS),
            load_images(
                self.strangers, size, title=f"reading other images of {COLLECTION}", classes=LABELS
            ),
            load_images(self.unseen, size, title="reading images of other sources", classes=LABELS),
        )


def reproduce(
    records: Sequence[ImageRecord],
    out: Path,
    options: ReproductionOptions,
    *,
    device: torch.device,
) -> ReproductionResult:
    """Train and measure both conditions; write `reproduction.json` and `reproduction.md`.

    A condition whose result lies in `out` is not trained again.

    Args:
        records: the images of a data set; those of the report's sources are used.
        out: the folder of the results.
        options: all that decides the result.
        device: where to compute.

    Returns:
        What `reproduction.json` says.

    Raises:
        DataError: the images do not suffice for the report's three classes, or cannot be read.
        CheckpointError: the folder holds a reproduction with other options or other images.
        XrayError: the loss is no longer a number.
    """
    images = _choose(records, options.limit)
    for part in Split:
        require_all_classes(
            in_split(images.reported, part), f"{COLLECTION} and {CHILDREN} {part}", LABELS
        )
    inputs = ReproductionInputs(
        options=options,
        images_sha256=fingerprint([*images.reported, *images.strangers, *images.unseen]),
    )
    out.mkdir(parents=True, exist_ok=True)
    conditions = {
        name: found for name in CONDITIONS if (found := _finished(out / f"{name}.json", inputs))
    }
    waiting = [name for name in CONDITIONS if name not in conditions]
    if waiting:
        reported, strangers, unseen = images.load()
    for name in waiting:
        split = SPLITS[name](reported, options)
        network, epochs = _fit(split, options, device, title=name)
        measured = _measure_test_sets(network, split, strangers, unseen, device)
        conditions[name] = ConditionResult(**dict(inputs), epochs=epochs, metrics=measured)
        write_whole(out / f"{name}.json", conditions[name].to_json())
    result = ReproductionResult(**dict(inputs), reported=REPORTED, conditions=conditions)
    write_whole(out / JSON, result.to_json())
    write_whole(out / MARKDOWN, render_reproduction(result))
    return result


def _choose(records: Sequence[ImageRecord], limit: int) -> _Images:
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for record in (each for each in records if each.label in LABELS):
        taken[record.source, record.label] += 1
        if not limit or taken[record.source, record.label] <= limit:
            kept.append(record)
    reported = [image for image in kept if (image.source, image.label) in REPORTED_IMAGES]
    patients = {image.patient for image in reported}
    return _Images(
        reported,
        [image for image in kept if image.source == COLLECTION and image.patient not in patients],
        [image for image in kept if (image.source, image.label) in UNSEEN_IMAGES],
    )


def _finished(path: Path, inputs: ReproductionInputs) -> ConditionResult | None:
    """The result of a condition, where it is there."""
    if not path.exists():
        return None
    found = ConditionResult.from_json(path.read_bytes())
    if (found.options, found.images_sha256) != (inputs.options, inputs.images_sha256):
        raise CheckpointError(
            f"{path} has other options or images. Give the same ones, or another --out."
        )
    return found


def split_as_reported(images: ImageSet, options: ReproductionOptions) -> ImageSplits:
    """Copies first, then a split by image: near-copies of one image stand on both sides."""
    random = np.random.default_rng(options.seed)
    pool = enlarge_covid(images, options.covid_images, random)
    position = random.permutation(len(pool)) / len(pool)
    in_test = position < TEST_SHARE
    in_validation = ~in_test & (position < TEST_SHARE + VALIDATION_SHARE)
    return ImageSplits(
        train=_subset(pool, ~in_test & ~in_validation),
        validation=_subset(pool, in_validation),
        test=_subset(pool, in_test),
    )


def split_by_patient(images: ImageSet, options: ReproductionOptions) -> ImageSplits:
    """The project's split by patient; training images alone are copied, in the same proportion."""
    random = np.random.default_rng(options.seed)
    splits = np.array([record.split for record in images.records])
    train, validation, test = (_subset(images, splits == part) for part in Split)
    covid = LABELS.index("covid")
    share = (train.labels == covid).sum() / (images.labels == covid).sum()
    return ImageSplits(
        enlarge_covid(train, round(options.covid_images * share), random), validation, test
    )


SPLITS: dict[str, Callable[[ImageSet, ReproductionOptions], ImageSplits]] = {
    "as-reported": split_as_reported,
    "by-patient": split_by_patient,
}


def enlarge_covid(images: ImageSet, target: int, random: np.random.Generator) -> ImageSet:
    """Add changed copies of COVID-19 images until there are `target` of them."""
    covid = np.flatnonzero(images.labels == LABELS.index("covid"))
    # Every image is copied about equally often.
    parents = np.resize(random.permutation(covid), max(0, target - len(covid)))
    copies = [change_image(images.images[parent], random) for parent in parents]
    return ImageSet(
        [*images.records, *(images.records[parent] for parent in parents)],
        np.concatenate([images.images, *(copy[None] for copy in copies)]),
        np.concatenate([images.labels, images.labels[parents]]),
    )


def _subset(images: ImageSet, chosen: NDArray[np.bool_]) -> ImageSet:
    records = [record for record, own in zip(images.records, chosen, strict=True) if own]
    return ImageSet(records, images.images[chosen], images.labels[chosen])


def _fit(
    split: ImageSplits, options: ReproductionOptions, device: torch.device, *, title: str
) -> tuple[ImageClassifier, list[EpochMetrics]]:
    """Train the report's network: Adam, cross-entropy, no other aid.

    Returns:
        The network at the epoch with the lowest validation loss, and the metrics of every epoch.
    """
    for part, images in (("training", split.train), ("validation", split.validation)):
        require_all_classes(images.records, part, LABELS)
    torch.manual_seed(options.seed)
    network = build_classifier(NETWORK, len(LABELS)).to(device)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    rows: list[EpochMetrics] = []
    best: dict[str, Tensor] = {}
    steps = math.ceil(len(split.train) / options.batch_size)
    with progress(title, options.epochs * steps) as counter:
        for epoch in range(1, options.epochs + 1):
            trained = _train_epoch(
                network, optimizer, split.train, options, device, counter.advance
            )
            row = EpochMetrics(
                epoch=epoch, **trained, **_validate(network, split.validation, device)
            )
            if row.validation_loss < min((r.validation_loss for r in rows), default=math.inf):
                best = {name: value.clone() for name, value in network.state_dict().items()}
            rows.append(row)
    network.load_state_dict(best)
    return network.eval(), rows


def _train_epoch(
    network: ImageClassifier,
    optimizer: torch.optim.Optimizer,
    images: ImageSet,
    options: ReproductionOptions,
    device: torch.device,
    on_step: Callable[[], None],
) -> dict[str, float]:
    network.train()
    total, right = 0.0, 0
    for chosen in torch.split(torch.randperm(len(images)), options.batch_size):
        batch = to_unit(images.images[chosen.numpy()], device)
        labels = torch.from_numpy(images.labels[chosen.numpy()]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
            logits = network(batch.contiguous(memory_format=torch.channels_last)).float()
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if not math.isfinite(loss.item()):
            raise XrayError(
                f"The loss became {loss.item()}. Give another --seed, or --precision float32."
            )
        total += loss.item() * len(chosen)
        right += int((logits.argmax(dim=1) == labels).sum())
        on_step()
    return {"train_loss": total / len(images), "train_accuracy": right / len(images)}


def _validate(network: ImageClassifier, images: ImageSet, device: torch.device) -> dict[str, float]:
    probabilities = metrics.softmax(infer(network.eval(), images.images, device, INFERENCE_BATCH))
    return {
        "validation_loss": metrics.log_loss(images.labels, probabilities),
        "validation_accuracy": metrics.accuracy(images.labels, probabilities),
    }


def _measure_test_sets(
    network: ImageClassifier,
    split: ImageSplits,
    strangers: ImageSet,
    unseen: ImageSet,
    device: torch.device,
) -> dict[str, MeasuredImages]:
    """Metrics for every test set that there are images of."""
    sources = split.test.sources
    test_sets = {
        "test": split.test,
        "children": _subset(split.test, sources == CHILDREN),
        "collection": _joined(_subset(split.test, sources == COLLECTION), strangers),
        "unseen": unseen,
    }
    return {
        name: _measure(network, images, device) for name, images in test_sets.items() if len(images)
    }


def _joined(one: ImageSet, other: ImageSet) -> ImageSet:
    return ImageSet(
        [*one.records, *other.records],
        np.concatenate([one.images, other.images]),
        np.concatenate([one.labels, other.labels]),
    )


def _measure(network: ImageClassifier, images: ImageSet, device: torch.device) -> MeasuredImages:
    truth, patients = images.labels, images.patients
    probabilities = metrics.softmax(infer(network, images.images, device, INFERENCE_BATCH))
    confusion = metrics.confusion_matrix(truth, probabilities.argmax(axis=1), len(LABELS))
    return MeasuredImages(
        images=len(images),
        patients=len(set(patients.tolist())),
        accuracy=metrics.bootstrap(metrics.accuracy, truth, probabilities, patients),
        per_class=per_class_metrics(LABELS, truth, probabilities, patients),
        confusion=confusion.tolist(),
        within_source=within_source(LABELS, truth, probabilities, images.sources, patients),
    )
