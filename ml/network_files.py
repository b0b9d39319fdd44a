"""The two files of a small network that is served: its graph, and the card that describes it."""

import hashlib
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ml.errors import BundleError
from ml.files import write_whole
from ml.json_model import InvalidJson, JsonModel

CARD = "card.json"


class NetworkCard(JsonModel):
    """What every card says.

    Attributes:
        sha256: of the graph.
        created_at: ISO 8601, UTC.
        input_size: side of the square images that it reads, in pixels.
    """

    sha256: str
    created_at: str
    network: str
    parameters: int
    input_size: int


Card = TypeVar("Card", bound=NetworkCard)


def read_network(graph: Path, card_type: type[Card], *, command: str) -> tuple[Card, bytes]:
    """Read and verify a network.

    Args:
        graph: the file of the graph; the card lies beside it.
        card_type: of the card.
        command: makes such a network, for the error.

    Raises:
        BundleError: a file is missing or damaged, or the graph is not the card's.
    """
    card_file = graph.parent / CARD
    try:
        card = card_type.from_json(card_file.read_bytes())
        content = graph.read_bytes()
    except OSError as problem:
        raise BundleError(
            f"Cannot read the network in {graph.parent} ({problem}). Make one with {command}."
        ) from problem
    except InvalidJson as problem:
        raise BundleError(
            f"{card_file} is not a card: {problem}. Make the network again with {command}."
        ) from problem
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise BundleError(f"{graph} is not the graph that its card describes. Copy both again.")
    return card, content


def write_network(graph: Path, content: bytes, card: JsonModel) -> None:
    """Write a graph and, beside it, its card.

    Each file is written whole, the card last: what an interruption leaves is refused by the reader,
    because the card names the graph's SHA-256.
    """
    graph.parent.mkdir(parents=True, exist_ok=True)
    write_whole(graph, content)
    write_whole(graph.parent / CARD, card.to_json())


def require_squares(squares: NDArray[np.uint8], side: int) -> None:
    """Check that images are standardised ones of the side that a network reads.

    Raises:
        ValueError: they have another shape or type.
    """
    if squares.dtype != np.uint8 or squares.shape[1:] != (side, side):
        raise ValueError(
            f"expected uint8 images of shape (B, {side}, {side}), got {squares.dtype} "
            f"{squares.shape}: standardise them first"
        )
