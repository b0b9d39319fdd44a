"""Lung segmentation of a chest X-ray: where the lungs are, and the box around them. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.metrics import Interval
from ml.imaging.preprocessing import standardise
from ml.network_files import NetworkCard, read_network, require_squares
from ml.onnx_runtime import open_graph
from ml.options.lungs import LungOptions

GRAPH = "lungs.onnx"
PRETRAINED_LUNGS = Path(__file__).parents[1] / "pretrained" / "lungs"
LUNGS = 2
# A pixel is lung from this probability on.
PROBABILITY = 0.5
# Lungs that fill less of the image than this are not believed.
LEAST_AREA = 0.04
BOX_MARGIN = 0.05


class Box(NamedTuple):
    """A rectangle in shares of an image's width and height, from its top left corner."""

    left: float
    top: float
    right: float
    bottom: float

    def mask(self, side: int) -> NDArray[np.bool_]:
        """(side, side): the pixels of a square image that lie in it."""
        found = np.zeros((side, side), np.bool_)
        rows = slice(round(self.top * side), round(self.bottom * side))
        found[rows, round(self.left * side) : round(self.right * side)] = True
        return found


WHOLE_IMAGE = Box(0.0, 0.0, 1.0, 1.0)


class LungCard(NetworkCard):
    """What a lung segmentation network is and how well it does.

    Attributes:
        mask_size: side of its mask.
        options: of training.
        images: by part, `training` and `held_out`.
        patients: the same.
        by_source: part -> source -> images.
        dice: mean over the held-out images, with an interval over their patients.
        least_dice: of the worst held-out image.
    """

    mask_size: int
    preprocessing: str
    options: LungOptions
    images: dict[str, int]
    patients: dict[str, int]
    by_source: dict[str, dict[str, int]]
    split: str
    dice: Interval
    least_dice: float
    limitations: list[str]
    licence: str
    code_version: str
    format: int = 1


@dataclass(frozen=True, slots=True)
class Lungs:
    """The lungs that were found in one image.

    Attributes:
        mask: (s, s), over the whole image, whatever its aspect ratio.
    """

    mask: NDArray[np.bool_]

    @property
    def area(self) -> float:
        """Share of the image that is lung."""
        return float(self.mask.mean())

    @property
    def plausible(self) -> bool:
        """Whether there is enough lung for a chest X-ray."""
        return self.area >= LEAST_AREA

    def box(self, margin: float = BOX_MARGIN) -> Box:
        """The rectangle around the lungs; the whole image where they are not plausible.

        Args:
            margin: added on each side, as a share of the lungs' width or height. The box ends at
                the image's edge.
        """
        if not self.plausible:
            return WHOLE_IMAGE
        left, right = _extent(self.mask.sum(axis=0), margin)
        top, bottom = _extent(self.mask.sum(axis=1), margin)
        return Box(left, top, right, bottom)


class LungSegmenter:
    """The lung segmentation network in ONNX Runtime; safe to use from several threads at once."""

    def __init__(self, card: LungCard, graph: bytes, *, threads: int = 1):
        """Build the session.

        Args:
            card: describes the graph.
            graph: a serialised ONNX model.
            threads: cores that one call may use.
        """
        self.card = card
        self._session = open_graph(graph, threads=threads)

    @classmethod
    def load(cls, folder: Path = PRETRAINED_LUNGS, *, threads: int = 1) -> Self:
        """Read and verify a network.

        Raises:
            BundleError: a file is missing or damaged, or the graph is not the card's.
        """
        card, graph = read_network(folder / GRAPH, LungCard, command="xray train lungs")
        return cls(card, graph, threads=threads)

    def find(self, pixels: NDArray[np.uint8 | np.uint16]) -> Lungs:
        """Find the lungs of one decoded image.

        Args:
            pixels: (H, W), higher is brighter.

        Raises:
            BlankImage: the image has no contrast.
        """
        square = standardise(pixels, self.card.input_size)
        return Lungs(largest_parts(self.probabilities(square[None])[0] > PROBABILITY, LUNGS))

    def probabilities(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S) standardised images -> (B, s, s) probability of lung.

        Raises:
            ValueError: the images have another shape or type than the card says.
        """
        require_squares(squares, self.card.input_size)
        found: NDArray[np.float32] = self._session.run(None, {"images": squares[:, None]})[0]
        return found[:, 0]


def largest_parts(mask: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """The largest connected parts of a mask, (H, W) -> (H, W); pixels connect by their sides."""
    # A border of background, so that no neighbour lies outside.
    padded = np.pad(mask, 1).ravel()
    width = mask.shape[1] + 2
    waiting = set(np.flatnonzero(padded).tolist())
    parts: list[list[int]] = []
    while waiting:
        part = [waiting.pop()]
        for pixel in part:
            near = waiting.intersection((pixel - 1, pixel + 1, pixel - width, pixel + width))
            waiting -= near
            part.extend(near)
        parts.append(part)
    kept = np.zeros_like(padded)
    # By its first pixel where two are equally large, so that the result is always the same.
    for part in sorted(parts, key=lambda pixels: (-len(pixels), min(pixels)))[:count]:
        kept[part] = True
    return kept.reshape(-1, width)[1:-1, 1:-1]


def _extent(counts: NDArray[np.int64], margin: float) -> tuple[float, float]:
    """Begin and end of the lungs in shares of a side, from the lung pixels at each place of it."""
    places = np.flatnonzero(counts)
    begin, end = places[0] / len(counts), (places[-1] + 1) / len(counts)
    wider = margin * (end - begin)
    return max(0.0, float(begin - wider)), min(1.0, float(end + wider))
