"""The original report's classifier by its own protocol, and what that protocol hides.

"Detection of COVID-19 through chest X-ray using WGAN-GP" (Mumbai, 2021) trained a small network on
COVID-19 films of one collection, enlarged by changed copies before the split, against the films of
children from one hospital. It is trained here twice: as reported, and on the same films split by
patient with copies of training films alone. Both networks then answer the same questions: their
own test films, films within one source, and films of sources that they never saw.

Where the report is silent, this module chooses: the shares of the split are those of `ml.data.manifest`,
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

from ml.classifier.bundle import finite
from ml.classifier.networks import FilmClassifier, backbone, build_classifier
from ml.classifier.sampling import require_all_classes
from ml.classifier.training import infer, to_unit
from ml.data.loading import FilmSet, load_films
from ml.data.manifest import FilmRecord, in_split
from ml.data.splits import TEST_SHARE, VALIDATION_SHARE, Split
from ml.errors import CheckpointError, XrayError
from ml.evaluation import metrics
from ml.evaluation.evaluate import per_class_figures, within_source
from ml.files import write_whole
from ml.labels import DISPLAY_NAMES, LABELS
from ml.reporting.format import interval, markdown_table
from ml.training.run_folder import fingerprint

NETWORK = "report-cnn"
# The report's COVID-19 collection, and the hospital of its pneumonia and normal films.
COLLECTION, CHILDREN = "cohen", "kermany"
REPORTED_FILMS = {(COLLECTION, "covid"), (CHILDREN, "pneumonia"), (CHILDREN, "normal")}
UNSEEN_FILMS = {
    ("cxnet", "covid"),
    ("figure1", "covid"),
    ("nih", "pneumonia"),
    ("nih", "normal"),
    ("radiography", "normal"),
}
REPORTED = {"accuracy": 0.98, "recall": {"covid": 1.00, "pneumonia": 0.97, "normal": 1.00}}
# Name -> what it means, for the tables and the notes below them.
ARMS = {
    "as-reported": ("as reported", "copies of COVID-19 films first, then a split by film"),
    "by-patient": ("by patient", "a split by patient, then copies of training films alone"),
}
QUESTIONS = {
    "test": ("own test films", "the network's own part for tests"),
    "children": (CHILDREN, f"the test films of {CHILDREN}"),
    "collection": (
        COLLECTION,
        f"the COVID-19 test films of {COLLECTION}, and its films of other patients, never seen",
    ),
    "unseen": ("other sources", "films of sources that no network here saw"),
}
# The first layer's output for 64 films of 256 px would take half a gigabyte.
INFERENCE_BATCH = 16
JSON, MARKDOWN = "reproduction.json", "reproduction.md"


@dataclass(frozen=True, slots=True)
class ReproductionOptions:
    """All that decides the result of a reproduction."""

    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 1e-3
    covid_films: int = 2055  # what the report enlarged its collection to
    precision: str = "float32"
    seed: int = 0
    limit: int = 0  # most films of a source and class; 0: all


@dataclass(frozen=True, slots=True)
class Arm:
    """The report's films, split in one of the two ways."""

    train: FilmSet
    validation: FilmSet
    test: FilmSet


@dataclass(frozen=True, slots=True)
class _Films:
    """All films of a reproduction."""

    reported: list[FilmRecord]
    strangers: list[FilmRecord]  # the collection's films of patients without COVID-19
    unseen: list[FilmRecord]

    def load(self) -> tuple[FilmSet, FilmSet, FilmSet]:
        size = backbone(NETWORK).size
        return (
            load_films(self.reported, size, title="reading the report's films"),
            load_films(self.strangers, size, title=f"reading other films of {COLLECTION}"),
            load_films(self.unseen, size, title="reading films of other sources"),
        )


def reproduce(
    records: Sequence[FilmRecord],
    out: Path,
    options: ReproductionOptions,
    *,
    device: torch.device,
) -> dict[str, Any]:
    """Train and measure both arms; write `reproduction.json` and `reproduction.md`.

    An arm whose result lies in `out` is not trained again.

    Args:
        records: the films of a data set; those of the report's sources are used.
        out: the folder of the results.
        options: all that decides the result.
        device: where to compute.

    Returns:
        What `reproduction.json` says.

    Raises:
        DataError: the films do not suffice for the report's three classes, or cannot be read.
        CheckpointError: the folder holds a reproduction with other options or other films.
        XrayError: the loss is no longer a number.
    """
    films = _choose(records, options.limit)
    for part in Split:
        require_all_classes(in_split(films.reported, part), f"{COLLECTION} and {CHILDREN} {part}")
    settings = {
        "options": asdict(options),
        "films_sha256": fingerprint([*films.reported, *films.strangers, *films.unseen]),
    }
    out.mkdir(parents=True, exist_ok=True)
    arms = {name: _finished(out / f"{name}.json", settings) for name in ARMS}
    waiting = [name for name, result in arms.items() if result is None]
    if waiting:
        reported, strangers, unseen = films.load()
    for name in waiting:
        arm = SPLITS[name](reported, options)
        network, rows = _fit(arm, options, device, title=name)
        figures = _answer_questions(network, arm, strangers, unseen, device)
        arms[name] = finite(settings | {"epochs": rows, "figures": figures})
        write_whole(out / f"{name}.json", json.dumps(arms[name], indent=2) + "\n")
    reproduction = settings | {"reported": REPORTED, "arms": arms}
    write_whole(out / JSON, json.dumps(reproduction, indent=2) + "\n")
    write_whole(out / MARKDOWN, render_reproduction(reproduction))
    return reproduction


def _choose(records: Sequence[FilmRecord], limit: int) -> _Films:
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for record in records:
        taken[record.source, record.label] += 1
        if not limit or taken[record.source, record.label] <= limit:
            kept.append(record)
    reported = [film for film in kept if (film.source, film.label) in REPORTED_FILMS]
    patients = {film.patient for film in reported}
    return _Films(
        reported,
        [film for film in kept if film.source == COLLECTION and film.patient not in patients],
        [film for film in kept if (film.source, film.label) in UNSEEN_FILMS],
    )


def _finished(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of an arm, where it is there."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if any(found[key] != value for key, value in settings.items()):
        raise CheckpointError(
            f"{path} is of other options or other films: give the same, or another --out"
        )
    return found


def split_as_reported(films: FilmSet, options: ReproductionOptions) -> Arm:
    """Copies first, then a split by film: near-copies of one film stand on both sides."""
    random = np.random.default_rng(options.seed)
    pool = enlarge_covid(films, options.covid_films, random)
    position = random.permutation(len(pool)) / len(pool)
    in_test = position < TEST_SHARE
    in_validation = ~in_test & (position < TEST_SHARE + VALIDATION_SHARE)
    return Arm(
        train=_subset(pool, ~in_test & ~in_validation),
        validation=_subset(pool, in_validation),
        test=_subset(pool, in_test),
    )


def split_by_patient(films: FilmSet, options: ReproductionOptions) -> Arm:
    """The project's split by patient; training films alone are copied, in the same proportion."""
    random = np.random.default_rng(options.seed)
    splits = np.array([record.split for record in films.records])
    train, validation, test = (_subset(films, splits == part) for part in Split)
    covid = LABELS.index("covid")
    share = (train.labels == covid).sum() / (films.labels == covid).sum()
    return Arm(enlarge_covid(train, round(options.covid_films * share), random), validation, test)


SPLITS: dict[str, Callable[[FilmSet, ReproductionOptions], Arm]] = {
    "as-reported": split_as_reported,
    "by-patient": split_by_patient,
}


def enlarge_covid(films: FilmSet, target: int, random: np.random.Generator) -> FilmSet:
    """Add changed copies of COVID-19 films until there are `target` of them."""
    covid = np.flatnonzero(films.labels == LABELS.index("covid"))
    # Every film is copied about equally often.
    parents = np.resize(random.permutation(covid), max(0, target - len(covid)))
    copies = [change_film(films.films[parent], random) for parent in parents]
    return FilmSet(
        [*films.records, *(films.records[parent] for parent in parents)],
        np.concatenate([films.films, *(copy[None] for copy in copies)]),
        np.concatenate([films.labels, films.labels[parents]]),
    )


def change_film(film: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """The report's augmentation of one film, (S, S) -> (S, S).

    Rotation by 2 to 5 degrees to either side, shear within 2 degrees, a tilt of 3 to 5 degrees to
    the left or right as a camera at a distance of the film's width would see it, and a mirror
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
    # In coordinates from -1 to 1: how far do the corners reach over the film?
    corners = warp @ np.array([[-1, 1, -1, 1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    reach = np.abs(corners[:2] / corners[2]).max()
    half = len(film) / 2
    to_unit_square = np.array([[1 / half, 0, -1], [0, 1 / half, -1], [0, 0, 1]])
    to_pixels = np.linalg.inv(to_unit_square) @ np.diag([1 / reach, 1 / reach, 1])
    pixels = to_pixels @ warp @ to_unit_square
    changed = Image.fromarray(film).transform(
        film.shape[::-1],
        Image.Transform.PERSPECTIVE,
        tuple((pixels / pixels[2, 2]).ravel()[:8]),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(changed)


def _subset(films: FilmSet, chosen: NDArray[np.bool_]) -> FilmSet:
    records = [record for record, own in zip(films.records, chosen, strict=True) if own]
    return FilmSet(records, films.films[chosen], films.labels[chosen])


def _fit(
    arm: Arm, options: ReproductionOptions, device: torch.device, *, title: str
) -> tuple[FilmClassifier, list[dict[str, float]]]:
    """Train the report's network: Adam, cross-entropy, no other aid.

    Returns:
        The network at the epoch with the lowest validation loss, and the figures of every epoch.
    """
    for part, films in (("training", arm.train), ("validation", arm.validation)):
        require_all_classes(films.records, part)
    torch.manual_seed(options.seed)
    network = build_classifier(NETWORK, len(LABELS)).to(device)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    rows: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    with Progress() as progress:
        steps = math.ceil(len(arm.train) / options.batch_size)
        task = progress.add_task(title, total=options.epochs * steps)
        for epoch in range(1, options.epochs + 1):
            row = {"epoch": epoch} | _train_epoch(
                network, optimizer, arm.train, options, device, partial(progress.advance, task)
            )
            row |= _validate(network, arm.validation, device)
            if row["validation_loss"] < min((r["validation_loss"] for r in rows), default=math.inf):
                best = {name: value.clone() for name, value in network.state_dict().items()}
            rows.append(row)
    network.load_state_dict(best)
    return network.eval(), rows


def _train_epoch(
    network: FilmClassifier,
    optimizer: torch.optim.Optimizer,
    films: FilmSet,
    options: ReproductionOptions,
    device: torch.device,
    on_step: Callable[[], None],
) -> dict[str, float]:
    network.train()
    total, right = 0.0, 0
    for chosen in torch.split(torch.randperm(len(films)), options.batch_size):
        batch = to_unit(films.films[chosen.numpy()], device)
        labels = torch.from_numpy(films.labels[chosen.numpy()]).to(device)
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
    return {"train_loss": total / len(films), "train_accuracy": right / len(films)}


def _validate(network: FilmClassifier, films: FilmSet, device: torch.device) -> dict[str, float]:
    probabilities = metrics.softmax(infer(network.eval(), films.films, device, INFERENCE_BATCH))
    return {
        "validation_loss": metrics.log_loss(films.labels, probabilities),
        "validation_accuracy": metrics.accuracy(films.labels, probabilities),
    }


def _answer_questions(
    network: FilmClassifier, arm: Arm, strangers: FilmSet, unseen: FilmSet, device: torch.device
) -> dict[str, dict[str, Any]]:
    """Figures for every question that there are films for."""
    sources = arm.test.sources
    asked = {
        "test": arm.test,
        "children": _subset(arm.test, sources == CHILDREN),
        "collection": _joined(_subset(arm.test, sources == COLLECTION), strangers),
        "unseen": unseen,
    }
    return {name: _measure(network, films, device) for name, films in asked.items() if len(films)}


def _joined(one: FilmSet, other: FilmSet) -> FilmSet:
    return FilmSet(
        [*one.records, *other.records],
        np.concatenate([one.films, other.films]),
        np.concatenate([one.labels, other.labels]),
    )


def _measure(network: FilmClassifier, films: FilmSet, device: torch.device) -> dict[str, Any]:
    truth, patients = films.labels, films.patients
    probabilities = metrics.softmax(infer(network, films.films, device, INFERENCE_BATCH))
    confusion = metrics.confusion_matrix(truth, probabilities.argmax(axis=1), len(LABELS))
    within = within_source(truth, probabilities, films.sources, patients)
    return {
        "films": len(films),
        "patients": len(set(patients.tolist())),
        "accuracy": asdict(metrics.bootstrap(metrics.accuracy, truth, probabilities, patients)),
        "per_class": {
            label: own | {key: asdict(own[key]) for key in own if key.endswith("_interval")}
            for label, own in per_class_figures(truth, probabilities, patients).items()
        },
        "confusion": confusion.tolist(),
        "within_source": [row | {"auroc": asdict(row["auroc"])} for row in within],
    }


def accuracy_table(reproduction: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the report's figures beside ours; `reproduction` as in its JSON file."""
    recalls = [f"recall {DISPLAY_NAMES[label]}" for label in LABELS]
    head = ["network", "measured on", "films", "patients", "accuracy", *recalls]
    reported = reproduction["reported"]
    given = [reported["accuracy"], *(reported["recall"][label] for label in LABELS)]
    rows = [["the report", "own test films", "3000", "", *(f"{one:.2f}" for one in given)]]
    for name, question, figures in _answers(reproduction):
        recall = [figures["per_class"][label]["recall_interval"] for label in LABELS]
        counts = [str(figures["films"]), str(figures["patients"])]
        values = [_brief(one) for one in (figures["accuracy"], *recall)]
        rows.append([ARMS[name][0], QUESTIONS[question][0], *counts, *values])
    return head, rows


def auroc_table(reproduction: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the AUROC within single sources; `reproduction` as in its JSON file."""
    rows = [
        [
            ARMS[name][0],
            row["source"],
            f"{DISPLAY_NAMES[row['positive']]} against {DISPLAY_NAMES[row['negative']]}",
            str(row["auroc"]["n"]),
            _brief(row["auroc"]),
        ]
        for name, question, figures in _answers(reproduction)
        # The test films hold those of the children, and of the collection COVID-19 alone.
        if question != "test"
        for row in figures["within_source"]
    ]
    return ["network", "source", "question", "films", "AUROC"], rows


def _answers(reproduction: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in ARMS:
        for question, figures in reproduction["arms"][name]["figures"].items():
            yield name, question, figures


def _brief(figure: Mapping[str, Any]) -> str:
    """A figure with its interval; nothing where there is no film to it."""
    if figure["value"] is None:
        return ""
    value, reach = interval(figure)
    return f"{value} ({reach})"


def render_reproduction(reproduction: Mapping[str, Any]) -> str:
    """The result as Markdown; `reproduction` as in its JSON file."""
    options = reproduction["options"]
    return "\n".join(
        [
            "# The report's classifier, reproduced",
            "",
            f"`{NETWORK}`, {options['epochs']} epochs, seed {options['seed']}, "
            f"{options['precision']}. In brackets: 95 % intervals over resampled patients.",
            "",
            markdown_table(*accuracy_table(reproduction)),
            "",
            *(f"- {name}: {meaning}" for name, meaning in (*ARMS.values(), *QUESTIONS.values())),
            "",
            "AUROC within one source, where its name tells nothing:",
            "",
            markdown_table(*auroc_table(reproduction)),
            "",
        ]
    )
