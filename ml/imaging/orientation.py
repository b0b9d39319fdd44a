"""The orientation check: is an image an upright frontal chest X-ray with bright bones? No torch.

A small network looks at the picture alone, whatever the file's header says. What it finds is
corrected and said, or said; it never changes an image without a warning.
"""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.metrics import Interval, softmax
from ml.imaging.corrections import Orientation
from ml.imaging.preprocessing import standardise
from ml.json_model import JsonModel
from ml.network_files import NetworkCard, read_network, require_squares
from ml.onnx_runtime import open_graph
from ml.options.orientation import OrientationOptions

GRAPH = "orientation.onnx"
PRETRAINED_ORIENTATION = Path(__file__).parents[1] / "pretrained" / "orientation"
ROTATIONS = 4
# An image is corrected, or doubted, from this probability on.
PROBABILITY = 0.9
# Below it an image does not look like a frontal chest X-ray. About 98 in 100 pictures of other
# things are, and at most 2 in 100 chest X-rays of a site (benchmarks/frontal_chest.py).
CHEST_PROBABILITY = 0.95


class OrientationMetrics(JsonModel):
    """How well the check does on one group of images.

    Attributes:
        images: that it was measured on, upright and with bright bones.
        patients: of these images.
        inverted_found: share of the images whose inversion was found and corrected.
        rotated_found: the same for rotations by 90, 180 and 270 degrees.
        false_alarms: share of the untouched images that were corrected.
        chest_doubted: share of the untouched images that were taken for no frontal chest.
    """

    images: int
    patients: int
    inverted_found: Interval
    rotated_found: Interval
    false_alarms: Interval
    chest_doubted: Interval


class OrientationCard(NetworkCard):
    """What an orientation check is and how well it does.

    Attributes:
        options: of training.
        by_site: site -> training images.
        left_out: the site that had no part in training.
        metrics: by group, `left_out_site` and `held_out_patients`.
        not_chest_found: share of pictures of other things that were doubted, by kind.
    """

    options: OrientationOptions
    by_site: dict[str, int]
    left_out: str
    metrics: dict[str, OrientationMetrics]
    not_chest_found: dict[str, Interval]
    limitations: list[str]
    licence: str
    code_version: str
    format: int = 1


class OrientationCheck:
    """The orientation network of one folder; safe to use from several threads at once."""

    def __init__(self, card: OrientationCard, graph: bytes):
        """Build the session.

        Args:
            card: describes the graph.
            graph: a serialised ONNX model.
        """
        self.card = card
        # Small, and its calls are mostly of one image.
        self._session = open_graph(graph, serving=True)

    @classmethod
    def load(cls, folder: Path = PRETRAINED_ORIENTATION) -> Self:
        """Read and verify a network.

        Raises:
            BundleError: a file is missing or damaged, or the graph is not what its card says.
        """
        card, graph = read_network(
            folder / GRAPH, OrientationCard, command="xray train orientation"
        )
        return cls(card, graph)

    def find(self, square: NDArray[np.uint8]) -> Orientation:
        """Check one standardised image, (S, S), such as the input of a classifier."""
        return self.find_all(standardise(square, self.card.input_size)[None])[0]

    def find_all(self, squares: NDArray[np.uint8]) -> list[Orientation]:
        """Check standardised images of the card's input size, (B, S, S)."""
        logits = self.logits(squares)
        turns = softmax(logits[:, :ROTATIONS])
        inverted, chest = 1 / (1 + np.exp(-np.clip(logits[:, ROTATIONS:].T, -50.0, 50.0)))
        return [
            _decide(*parts)
            for parts in zip(turns, map(float, inverted), map(float, chest), strict=True)
        ]

    def logits(self, squares: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(B, S, S) -> (B, 6): four rotations, inverted, frontal chest.

        Raises:
            ValueError: the images have another shape or type than the card says.
        """
        require_squares(squares, self.card.input_size)
        found: NDArray[np.float32] = self._session.run(None, {"images": squares[:, None]})[0]
        return found.astype(np.float64)


def _decide(turns: NDArray[np.float64], inverted: float, chest: float) -> Orientation:
    # Rotation and greys of a picture of something else mean nothing.
    if 1 - chest >= PROBABILITY:
        return Orientation(chest=False)
    best = int(turns.argmax())
    return Orientation(
        quarter_turns=best if turns[best] >= PROBABILITY else 0,
        inverted=inverted >= PROBABILITY,
        chest=chest >= CHEST_PROBABILITY,
    )
