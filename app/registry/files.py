"""Folders of models in the home folder: checked copies, each named by its model's SHA-256."""

import hashlib
import json
from pathlib import Path

from app.core.errors import Conflict
from app.registry.model_check import check_in_child
from app.registry.tables import ModelVersion
from app.settings import Settings
from ml.classifier.bundle import CARD, GRAPH
from ml.errors import BundleError
from ml.evaluation.evidence import EVIDENCE_FILES, Evidence, read_evidence
from ml.gan.generator_card import ReleasedGeneratorCard
from ml.gan.onnx_generator import GRAPH as GENERATOR_GRAPH
from ml.gan.onnx_generator import GeneratorGraph, GraphFacts
from ml.json_model import InvalidJson
from ml.options.gan import GanOptions
from ml.texts import msg

WEIGHTS = "generator.safetensors"
SAMPLES = "samples.png"
# The evidence may be missing.
CLASSIFIER_FILES = (GRAPH, CARD, *EVIDENCE_FILES)
GENERATOR_FILES = (WEIGHTS, CARD, GENERATOR_GRAPH, SAMPLES)


def model_folder(settings: Settings, model: ModelVersion) -> Path:
    """Where a model's files lie.

    Raises:
        Conflict: only its card is kept here.
    """
    if model.folder is None:
        raise Conflict(
            msg(
                "The files of model %(version)s are missing. Register its folder first.",
                version=model.version,
            )
        )
    return settings.home_folder.resolve(model.folder)


def evidence_of(settings: Settings, model: ModelVersion) -> Evidence:
    """What lies beside a registered classifier and says how far to trust it.

    Raises:
        BundleError: a file is damaged.
    """
    if model.folder is None:
        return Evidence()
    return read_evidence(settings.home_folder.resolve(model.folder), model.sha256)


def check_generator(folder: Path) -> ReleasedGeneratorCard:
    """The card of a released generator whose files are what it says.

    Raises:
        BundleError: a file is missing or damaged, or the card describes another generator.
    """
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise BundleError(f"There is no {name}. Give a folder of xray export generator.")
    try:
        card = ReleasedGeneratorCard.from_json((folder / CARD).read_text(encoding="utf-8"))
    except (InvalidJson, UnicodeDecodeError) as problem:
        raise BundleError(
            f"{CARD} is not a generator's card: {problem}. Export the generator again."
        ) from problem
    with (folder / WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != card.sha256:
        raise BundleError(
            f"{WEIGHTS} has SHA-256 {digest[:12]}..., but its card states "
            f"{card.sha256[:12]}.... The generator is damaged or was changed. Export it again."
        )
    if (folder / GENERATOR_GRAPH).is_file():
        check_in_child("generator", folder)
        _check_graph(GeneratorGraph.load(folder).facts, card.options)
    return card


def _check_graph(facts: GraphFacts, options: GanOptions) -> None:
    pairs = {
        "labels": (facts.labels, options.label_names),
        "size": (facts.size, options.size),
        "latent": (facts.latent, options.latent),
        "conditional": (facts.conditional, options.conditional),
    }
    other = [name for name, (graph, card) in pairs.items() if graph != card]
    if other:
        raise BundleError(
            f"{GENERATOR_GRAPH} and {CARD} differ in {', '.join(other)}. Export the generator "
            "again."
        )


def carded_sha256(folder: Path) -> str | None:
    """The SHA-256 that the card in a folder gives its model; None where there is no such card."""
    try:
        return str(json.loads((folder / CARD).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
