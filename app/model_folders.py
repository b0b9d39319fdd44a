"""Folders of models in the home folder: checked copies, each named by its model's SHA-256."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import Conflict
from app.model_views import GeneratorView
from app.models import ModelVersion
from app.settings import Settings
from ml.bundle import CARD, GRAPH
from ml.errors import BundleError
from ml.generator_graph import GRAPH as GENERATOR_GRAPH
from ml.generator_graph import GeneratorGraph, GraphFacts
from ml.labels import LABELS
from ml.predictor import Predictor

FOLDER = "models"
WEIGHTS = "generator.safetensors"
SAMPLES = "samples.png"
CLASSIFIER_FILES = (GRAPH, CARD)
GENERATOR_FILES = (WEIGHTS, CARD, GENERATOR_GRAPH, SAMPLES)
_COPY = ".copy-"
# A copy that is still being made is younger than this.
_STALE_COPY_S = 24 * 3600
# What a generator's card has, as pages say it.
_OF_CARD: Mapping[str, type] = {
    "sha256": str,
    "options": dict,
    "films": dict,
    "figures": dict,
    "notes": list,
    "step": int,
    "films_seen": int,
    "code_version": str,
    "created_at": str,
}
_OF_OPTIONS: Mapping[str, type] = {
    "objective": str,
    "network": str,
    "labels": str,
    "size": int,
    "latent": int,
    "conditional": bool,
}
_IN_WORDS: Mapping[type, str] = {
    str: "a text",
    dict: "an object",
    list: "a list",
    int: "a whole number",
    bool: "true or false",
}
# Sides in pixels between which a classifier's films are decoded here.
_LEAST_SIDE, _MOST_SIDE = 16, 1024


def model_folder(settings: Settings, model: ModelVersion) -> Path:
    """Where a model's files lie.

    Raises:
        Conflict: only its card is kept here.
    """
    if model.folder is None:
        raise Conflict(
            f"of model {model.version} only the card is kept here: register its folder first"
        )
    return settings.home.resolve() / model.folder


def kept_place(settings: Settings, sha256: str) -> Path:
    """Where the files of a model with this SHA-256 are kept."""
    return settings.home.resolve() / FOLDER / sha256


@contextmanager
def copied(settings: Settings, source: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """A copy of a folder's files from which it can be renamed into place; removed unless it was.

    What is checked is the copy, so nobody changes a file between the check and the keeping.

    Args:
        settings: name the home folder.
        source: the folder.
        names: the files wanted; those that are not there are left out, and so is all else.
    """
    place = settings.home.resolve() / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    for stale in place.glob(f"{_COPY}*"):
        if stale.stat().st_mtime < time.time() - _STALE_COPY_S:
            shutil.rmtree(stale, ignore_errors=True)
    copy = Path(tempfile.mkdtemp(prefix=_COPY, dir=place))
    try:
        for name in names:
            if (source / name).is_file():
                shutil.copyfile(source / name, copy / name)
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def put_in_place(copy: Path, place: Path) -> None:
    """Give a copy its name, in place of what a crash may have left there."""
    shutil.rmtree(place, ignore_errors=True)
    copy.rename(place)


def load_classifier(folder: Path) -> Predictor:
    """The classifier of a bundle, after it has answered a film.

    Raises:
        BundleError: the bundle is missing, damaged, not what its card says, or cannot be run.
    """
    try:
        predictor = Predictor.load(folder)
        _try_out(predictor)
    except BundleError:
        raise
    # ONNX Runtime's own errors have no common base.
    except Exception as problem:
        raise BundleError(
            f"{folder}: the graph cannot be run ({type(problem).__name__}): export the run again"
        ) from problem
    return predictor


def _try_out(predictor: Predictor) -> None:
    side, classes = predictor.card.input_size, len(predictor.card.labels)
    if not _LEAST_SIDE <= side <= _MOST_SIDE:
        raise BundleError(
            f"the bundle wants films of {side} px: {_LEAST_SIDE} to {_MOST_SIDE} px can be made"
        )
    ramp = np.tile(np.linspace(0, 255, side).astype(np.uint8), (side, 1))
    answer = predictor.predict(ramp)
    maps = answer.activation_map
    if maps.ndim != 3 or len(maps) != classes or len(answer.probabilities) != classes:
        raise BundleError("the graph answers in another shape than its card says")
    if not all(np.isfinite([*answer.probabilities.values(), answer.novelty])):
        raise BundleError("the graph answers what is no number")


def check_generator(folder: Path) -> dict[str, Any]:
    """The card of a released generator whose files are what it says.

    Raises:
        BundleError: a file is missing or damaged, or the card describes another generator.
    """
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise BundleError(f"no {name} there: name a folder of xray export generator")
    card = _generator_card(folder)
    with (folder / WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != card["sha256"]:
        raise BundleError(
            f"{WEIGHTS} has SHA-256 {digest[:12]}..., its card says {card['sha256'][:12]}...: "
            "the generator is damaged or was changed, export it again"
        )
    if (folder / GENERATOR_GRAPH).is_file():
        _check_graph(GeneratorGraph.load(folder).facts, card["options"])
    return card


def _check_graph(facts: GraphFacts, options: Mapping[str, Any]) -> None:
    says = {"labels": ",".join(facts.labels), "size": facts.size}
    says |= {"latent": facts.latent, "conditional": facts.conditional}
    other = [name for name, value in says.items() if value != options[name]]
    if other:
        raise BundleError(
            f"{GENERATOR_GRAPH} and {CARD} differ in {', '.join(other)}: export the generator again"
        )


def _generator_card(folder: Path) -> dict[str, Any]:
    """A card with all that is said of a generator here: no page meets one that lacks a part."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except ValueError as problem:
        raise BundleError(f"{CARD} is not a generator's card: {problem!r}") from problem
    faults = _faults(card, _OF_CARD, "")
    if not faults:
        faults = [*_faults(card["options"], _OF_OPTIONS, "options."), *_odd_values(card)]
    if not faults:
        # The figures have many parts, so they are told once, as on the generator's page.
        try:
            GeneratorView.of(ModelVersion(version="", sha256=card["sha256"], card=card))
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            faults = [f"its figures cannot be told: {problem!r}"]
    if faults:
        raise BundleError(
            f"{CARD} is not a generator's card: {'; '.join(faults)}: export the generator again"
        )
    found: dict[str, Any] = card
    return found


def _faults(part: Any, kinds: Mapping[str, type], prefix: str) -> list[str]:
    if not isinstance(part, dict):
        return ["it is no object of JSON"]
    faults = [f"{prefix}{name} is missing" for name in kinds if name not in part]
    return faults + [
        f"{prefix}{name} is {part[name]!r:.40}, expected {_IN_WORDS[kind]}"
        for name, kind in kinds.items()
        # In Python yes and no are numbers too.
        if name in part and type(part[name]) is not kind
    ]


def _odd_values(card: Mapping[str, Any]) -> Iterator[str]:
    """What is of the right kind and makes no sense."""
    labels = card["options"].get("labels")
    if isinstance(labels, str) and not set(labels.split(",")) <= set(LABELS):
        yield f"options.labels is {labels!r:.40}, expected some of {','.join(LABELS)}"
    if any(type(count) is not int for count in card["films"].values()):
        yield "films has what is no number of films"
    if any(type(note) is not str for note in card["notes"]):
        yield "notes has what is no text"
    try:
        datetime.fromisoformat(card["created_at"])
    except ValueError:
        yield f"created_at is {card['created_at']!r:.40}, expected a moment as 2026-01-31T12:00:00Z"
