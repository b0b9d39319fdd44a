"""A bundle: a folder with one ONNX graph and the card that describes it. No torch here."""

import hashlib
from pathlib import Path

from ml.classifier.card import ModelCard
from ml.errors import BundleError
from ml.json_model import InvalidJson

GRAPH = "classifier.onnx"
# Where the graph carries `ModelCard.decision_rule`.
RULE_KEY = "decision_rule"
CARD = "card.json"
PRETRAINED = Path(__file__).parents[1] / "pretrained" / "classifier"


def read_card(folder: Path) -> ModelCard:
    """Read the card of a bundle.

    Raises:
        BundleError: it is missing, is not a model card, or has a format that cannot be read.
    """
    try:
        return ModelCard.from_json((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise BundleError(
            f"There is no {CARD} in {folder}. Give the folder of a bundle."
        ) from problem
    except (InvalidJson, UnicodeDecodeError) as problem:
        raise BundleError(
            f"{folder / CARD} is not a model card: {problem}. Export the classifier again."
        ) from problem


def read_bundle(folder: Path) -> tuple[ModelCard, bytes]:
    """Read a bundle and check that the graph is the one its card names.

    Returns:
        The card, and the graph's bytes that were checked.

    Raises:
        BundleError: a file is missing, the card is invalid, or the graph's SHA-256 is not the
            card's.
    """
    card = read_card(folder)
    if not (folder / GRAPH).is_file():
        raise BundleError(f"There is no {GRAPH} in {folder}. Give the folder of a bundle.")
    graph = (folder / GRAPH).read_bytes()
    digest = hashlib.sha256(graph).hexdigest()
    if digest != card.sha256:
        raise BundleError(
            f"{folder / GRAPH} has SHA-256 {digest[:12]}..., but its card states "
            f"{card.sha256[:12]}.... The bundle is damaged or was changed. Copy it again."
        )
    return card, graph
