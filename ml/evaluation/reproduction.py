"""The original report's classifier by its own protocol, and what that protocol hides.

"Detection of COVID-19 through chest X-ray using WGAN-GP" (Mumbai, 2021) trained a small network on
COVID-19 images of one collection, enlarged by changed copies before the split, against the images
of
children from one hospital. It is trained here twice: as reported, and on the same images split by
patient with copies of training images alone. Both networks then answer the same questions: their
own test images, images within one source, and images of sources that they never saw.

Where the report is silent, this module chooses: the shares of the split are those of
`ml.data.manifest`,
the weights are those of the epoch with the lowest validation loss, and Adam's step is 0.001.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F

from ml.classifier.networks import ImageClassifier, backbone, build_classifier
from ml.classifier.sampling import require_all_classes
from ml.classifier.training import infer, to_unit
from ml.data.loading import ImageSet, load_images
from ml.data.manifest import ImageRecord, in_split
from ml.data.splits import TEST_SHARE, VALIDATION_SHARE, Split
from ml.errors import CheckpointError, XrayError
from ml.evaluation import metrics
from ml.evaluation.evaluate import per_class_metrics, within_source
from ml.files import write_whole
from ml.json_model import finite
from ml.labels import DISPLAY_NAMES
from ml.reporting.format import interval, markdown_table
from ml.training.run_folder import fingerprint

NETWORK = "report-cnn"
# The report's classes, whatever else a data set has.
LABELS = ("covid", "pneumonia", "normal")
# The report's COVID-19 collection, and the hospital of its pneumonia and normal images.
COLLECTION, CHILDREN = "cohen", "kermany"
REPORTED_IMAGES = {(COLLECTION, "covid"), (CHILDREN, "pneumonia"), (CHILDREN, "normal")}
UNSEEN_IMAGES = {
    ("cxnet", "covid"),
    ("figure1", "covid"),
    ("nih", "pneumonia"),
    ("nih", "normal"),
    ("radiography", "normal"),
}
REPORTED = {"accuracy": 0.98, "recall": {"covid": 1.00, "pneumonia": 0.97, "normal": 1.00}}
# Name -> what it means, for the tables and the notes below them.
CONDITIONS = {
    "as-reported": ("as reported", "augmented copies of the COVID-19 images first, then a split by image"),
    "by-patient": (
        "by patient",
        "a split by patient, then augmented copies of the training images only",
    ),
}
QUESTIONS = {
    "test": ("own test images", "the test split of the network"),
    "children": (CHILDREN, f"the test images of {CHILDREN}"),
    "collection": (
        COLLECTION,
        f"the COVID-19 test images of {COLLECTION}, and its images of other patients, on which "
        "neither network was trained",
    ),
    "unseen": ("other sources", "images of sources on which neither network was trained"),
}
# The first layer's output for 64 images of 256 px would take half a gigabyte.
INFERENCE_BATCH = 16
JSON, MARKDOWN = "reproduction.json", "reproduction.md"


@dataclass(frozen=True, slots=True)
class ReproductionOptions:
    """All that decides the result of a reproduction."""

    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 1e-3
    covid_images: int = 2055  # what the report enlarged its collection to
    precision: str = "float32"
    seed: int = 0
    limit: int = 0  # most images of a source and class; 0: all


@dataclass(frozen=True, slots=True)
class Arm:
    """The report's images, split in one of the two ways."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


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
) -> dict[str, Any]:
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
    settings = {
        "options": asdict(options),
        "images_sha256": fingerprint([*images.reported, *images.strangers, *images.unseen]),
    }
    out.mkdir(parents=True, exist_ok=True)
    conditions = {name: _finished(out / f"{name}.json", settings) for name in CONDITIONS}
    waiting = [name for name, result in conditions.items() if result is None]
    if waiting:
        reported, strangers, unseen = images.load()
    for name in waiting:
        condition = SPLITS[name](reported, options)
        network, rows = _fit(condition, options, device, title=name)
        scores = _answer_questions(network, condition, strangers, unseen, device)
        conditions[name] = finite(settings | {"epochs": rows, "metrics": scores})
        write_whole(out / f"{name}.json", json.dumps(conditions[name], indent=2) + "\n")
    reproduction = settings | {"reported": REPORTED, "conditions": conditions}
    write_whole(out / JSON, json.dumps(reproduction, indent=2) + "\n")
    write_whole(out / MARKDOWN, render_reproduction(reproduction))
    return reproduction


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


def _finished(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a condition, where it is there."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if any(found[key] != value for key, value in settings.items()):
        raise CheckpointError(
            f"{path} is of other options or other images: give the same, or another --out"
        )
    return found


def split_as_reported(images: ImageSet, options: ReproductionOptions) -> Arm:
    """Copies first, then a split by image: near-copies of one image stand on both sides."""
    random = np.random.default_rng(options.seed)
    pool = enlarge_covid(images, options.covid_images, random)
    position = random.permutation(len(pool)) / len(pool)
    in_test = position < TEST_SHARE
    in_validation = ~in_test & (position < TEST_SHARE + VALIDATION_SHARE)
    return Arm(
        train=_subset(pool, ~in_test & ~in_validation),
        validation=_subset(pool, in_validation),
        test=_subset(pool, in_test),
    )


def split_by_patient(images: ImageSet, options: ReproductionOptions) -> Arm:
    """The project's split by patient; training images alone are copied, in the same proportion."""
    random = np.random.default_rng(options.seed)
    splits = np.array([record.split for record in images.records])
    train, validation, test = (_subset(images, splits == part) for part in Split)
    covid = LABELS.index("covid")
    share = (train.labels == covid).sum() / (images.labels == covid).sum()
    return Arm(enlarge_covid(train, round(options.covid_images * share), random), validation, test)


SPLITS: dict[str, Callable[[ImageSet, ReproductionOptions], Arm]] = {
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


def change_image(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """The report's augmentation of one image, (S, S) -> (S, S).

    Rotation by 2 to 5 degrees to either side, shear within 2 degrees, a tilt of 3 to 5 degrees to
    the left or right as a camera at a distance of the image's width would see it, and a mirror
    image every other time; enlarged so that no corner is empty, as Augmentor does.
    """
    angle, tilt = (
        math.radians(random.uniform(low, high) * random.choice((-1, 1)))
        for low, high in ((2, 5), (3, 5))
    )
    shear = math.tan(math.radians(random.uniform(-2, 2)))
    mirror = random.choice((-1, 1))
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    lean = np.array([[mirror * math.cos(tilt), shear, 0], [0, 1, 0], [math.sin(tilt) / 2, 0, 1]])
    warp = turn @ lean
    # In coordinates from -1 to 1: how far do the corners reach over the image?
    corners = warp @ np.array([[-1, 1, -1, 1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    reach = np.abs(corners[:2] / corners[2]).max()
    half = len(image) / 2
    to_unit_square = np.array([[1 / half, 0, -1], [0, 1 / half, -1], [0, 0, 1]])
    to_pixels = np.linalg.inv(to_unit_square) @ np.diag([1 / reach, 1 / reach, 1])
    pixels = to_pixels @ warp @ to_unit_square
    changed = Image.fromarray(image).transform(
        image.shape[::-1],
        Image.Transform.PERSPECTIVE,
        tuple((pixels / pixels[2, 2]).ravel()[:8]),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(changed)


def _subset(images: ImageSet, chosen: NDArray[np.bool_]) -> ImageSet:
    records = [record for record, own in zip(images.records, chosen, strict=True) if own]
    return ImageSet(records, images.images[chosen], images.labels[chosen])


def _fit(
    condition: Arm, options: ReproductionOptions, device: torch.device, *, title: str
) -> tuple[ImageClassifier, list[dict[str, float]]]:
    """Train the report's network: Adam, cross-entropy, no other aid.

    Returns:
        The network at the epoch with the lowest validation loss, and the metrics of every epoch.
    """
    for part, images in (("training", condition.train), ("validation", condition.validation)):
        require_all_classes(images.records, part, LABELS)
    torch.manual_seed(options.seed)
    network = build_classifier(NETWORK, len(LABELS)).to(device)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    rows: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    with Progress() as progress:
        steps = math.ceil(len(condition.train) / options.batch_size)
        task = progress.add_task(title, total=options.epochs * steps)
        for epoch in range(1, options.epochs + 1):
            row = {"epoch": epoch} | _train_epoch(
                network,
                optimizer,
                condition.train,
                options,
                device,
                partial(progress.advance, task),
            )
            row |= _validate(network, condition.validation, device)
            if row["validation_loss"] < min((r["validation_loss"] for r in rows), default=math.inf):
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
            raise XrayError(f"the loss became {loss.item()}: give another --seed or float32")
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


def _answer_questions(
    network: ImageClassifier,
    condition: Arm,
    strangers: ImageSet,
    unseen: ImageSet,
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """Metrics for every question that there are images for."""
    sources = condition.test.sources
    asked = {
        "test": condition.test,
        "children": _subset(condition.test, sources == CHILDREN),
        "collection": _joined(_subset(condition.test, sources == COLLECTION), strangers),
        "unseen": unseen,
    }
    return {
        name: _measure(network, images, device) for name, images in asked.items() if len(images)
    }


def _joined(one: ImageSet, other: ImageSet) -> ImageSet:
    return ImageSet(
        [*one.records, *other.records],
        np.concatenate([one.images, other.images]),
        np.concatenate([one.labels, other.labels]),
    )


def _measure(network: ImageClassifier, images: ImageSet, device: torch.device) -> dict[str, Any]:
    truth, patients = images.labels, images.patients
    probabilities = metrics.softmax(infer(network, images.images, device, INFERENCE_BATCH))
    confusion = metrics.confusion_matrix(truth, probabilities.argmax(axis=1), len(LABELS))
    within = within_source(LABELS, truth, probabilities, images.sources, patients)
    return {
        "images": len(images),
        "patients": len(set(patients.tolist())),
        "accuracy": asdict(metrics.bootstrap(metrics.accuracy, truth, probabilities, patients)),
        "per_class": {
            label: own.as_json()
            for label, own in per_class_metrics(LABELS, truth, probabilities, patients).items()
        },
        "confusion": confusion.tolist(),
        "within_source": [row.as_json() for row in within],
    }


def accuracy_table(reproduction: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the report's metrics beside ours; `reproduction` as in its JSON file."""
    recalls = [f"recall {DISPLAY_NAMES[label]}" for label in LABELS]
    head = ["network", "measured on", "images", "patients", "accuracy", *recalls]
    reported = reproduction["reported"]
    given = [reported["accuracy"], *(reported["recall"][label] for label in LABELS)]
    rows = [["the report", "own test images", "3000", "", *(f"{one:.2f}" for one in given)]]
    for name, question, scores in _answers(reproduction):
        recall = [scores["per_class"][label]["recall_interval"] for label in LABELS]
        counts = [str(scores["images"]), str(scores["patients"])]
        values = [_brief(one) for one in (scores["accuracy"], *recall)]
        rows.append([CONDITIONS[name][0], QUESTIONS[question][0], *counts, *values])
    return head, rows


def auroc_table(reproduction: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the AUROC within single sources; `reproduction` as in its JSON file."""
    rows = [
        [
            CONDITIONS[name][0],
            row["source"],
            f"{DISPLAY_NAMES[row['positive']]} against {DISPLAY_NAMES[row['negative']]}",
            str(row["auroc"]["n"]),
            _brief(row["auroc"]),
        ]
        for name, question, scores in _answers(reproduction)
        # The test images hold those of the children, and of the collection COVID-19 alone.
        if question != "test"
        for row in scores["within_source"]
    ]
    return ["network", "source", "question", "images", "AUROC"], rows


def _answers(reproduction: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in CONDITIONS:
        for question, scores in reproduction["conditions"][name]["metrics"].items():
            yield name, question, scores


def _brief(metric: Mapping[str, Any]) -> str:
    """A metric with its interval; nothing where there is no image to it."""
    if metric["value"] is None:
        return ""
    value, reach = interval(metric)
    return f"{value} ({reach})"


def render_reproduction(reproduction: Mapping[str, Any]) -> str:
    """The result as Markdown; `reproduction` as in its JSON file."""
    options = reproduction["options"]
    return "\n".join(
        [
            "# Reproduction of the report's classifier",
            "",
            f"`{NETWORK}`, {options['epochs']} epochs, seed {options['seed']}, "
            f"{options['precision']}. In brackets: 95 % intervals, resampled by patient.",
            "",
            markdown_table(*accuracy_table(reproduction)),
            "",
            *(
                f"- {name}: {meaning}"
                for name, meaning in (*CONDITIONS.values(), *QUESTIONS.values())
            ),
            "",
            "AUROC within one source, where the source does not reveal the class:",
            "",
            markdown_table(*auroc_table(reproduction)),
            "",
        ]
    )
