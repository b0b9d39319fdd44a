"""A released generator and seeds give images. ONNX Runtime only: this module never imports
torch.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ml.errors import BundleError, XrayError
from ml.gan.latents import Latents, interpolate_latents, latents_of
from ml.imaging.types import GreyImages
from ml.json_model import JsonObject
from ml.onnx_runtime import open_graph

GRAPH, CARD = "generator.onnx", "card.json"
PRETRAINED = Path(__file__).parents[1] / "pretrained" / "generator"
# Where the graph carries its `GraphFacts`.
FACTS_KEY = "generator"
# Where the card says which graph is the generator's.
GRAPH_SHA256 = "graph_sha256"


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What a generator's graph says of itself.

    Attributes:
        sha256: of the generator's file, whose weights it has: the generator's name.
        labels: the classes, in the order of the class numbers.
        size: side of an image, in pixels.
        latent: length of a latent.
        conditional: whether it takes class numbers, and makes each class on demand.
    """

    sha256: str
    labels: tuple[str, ...]
    size: int
    latent: int
    conditional: bool

    def to_json(self) -> str:
        """The facts as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read facts; raises ValueError, TypeError or KeyError where they are none."""
        fields = json.loads(text)
        return cls(**fields | {"labels": tuple(fields["labels"])})


class GeneratorGraph:
    """The generator of one folder; safe to use from several threads at once.

    An image is that of `ml.gan.sampling` for the same seed and class, up to the rounding of a grey
    level.
    """

    def __init__(self, graph: bytes, *, threads: int = 1):
        """Build the session.

        Args:
            graph: a serialised ONNX model of `xray export generator`.
            threads: cores that one call may use; 1 serves several callers best.

        Raises:
            BundleError: it is no such model.
        """
        try:
            self._session = open_graph(graph, threads=threads)
            carried = self._session.get_modelmeta().custom_metadata_map[FACTS_KEY]
            self.facts = GraphFacts.from_json(carried)
        except BundleError:
            raise
        # ONNX Runtime's own errors have no common base.
        except Exception as problem:
            raise BundleError(
                f"{GRAPH} is not the graph of a generator ({type(problem).__name__}). Create it "
                "with xray export generator."
            ) from problem

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> Self:
        """Read and verify a released generator's graph.

        Args:
            folder: has `generator.onnx` and `card.json`.
            threads: as above.

        Raises:
            BundleError: a file is missing, damaged, or not what the card says.
        """
        for name in (CARD, GRAPH):
            if not (folder / name).is_file():
                raise BundleError(
                    f"There is no {name} in {folder}. Give a folder of xray export generator."
                )
        content = (folder / GRAPH).read_bytes()
        card = _card_in(folder)
        digest = hashlib.sha256(content).hexdigest()
        if digest != card.get(GRAPH_SHA256):
            raise BundleError(
                f"{folder / GRAPH} has SHA-256 {digest[:12]}..., not the one in its card. It is "
                "damaged or was changed. Export the generator again."
            )
        graph = cls(content, threads=threads)
        if graph.sha256 != card.get("sha256"):
            raise BundleError(
                f"The graph and the card in {folder} are of different generators. Export the "
                "generator again."
            )
        return graph

    @property
    def sha256(self) -> str:
        """Of the generator's file: the generator's name."""
        return self.facts.sha256

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes it learned, in the order of the class numbers."""
        return self.facts.labels

    @property
    def size(self) -> int:
        """Side of an image, in pixels."""
        return self.facts.size

    @property
    def latent(self) -> int:
        """Length of a latent."""
        return self.facts.latent

    def images(self, seeds: Sequence[int], label: str, truncation: float = 1.0) -> GreyImages:
        """Images of one class, each from its own seed alone.

        Args:
            seeds: one per image, 0 to 2**32 - 1.
            label: the class.
            truncation: of the latents, above 0 and not above 1; below 1 images vary less.

        Returns:
            (N, S, S) grey levels.

        Raises:
            XrayError: a class that the generator cannot make, or a seed out of its range.
        """
        number = class_number(label, self.labels, conditional=self.facts.conditional)
        return self.images_of_latents(latents_of(seeds, self.latent, truncation), number)

    def between(self, first: int, second: int, steps: int, label: str) -> GreyImages:
        """Interpolation between the images of two seeds, both included.

        Args:
            first: seed of the first image.
            second: seed of the last image.
            steps: how many images, 2 or more.
            label: the class.

        Returns:
            (steps, S, S) grey levels.

        Raises:
            XrayError: a class that the generator cannot make, or a seed out of its range.
        """
        number = class_number(label, self.labels, conditional=self.facts.conditional)
        ends = latents_of((first, second), self.latent)
        return self.images_of_latents(interpolate_latents(ends, steps), number)

    def images_of_latents(self, latents: Latents, number: int) -> GreyImages:
        """Images of latents (N, L) and one class number, which only a conditional one looks at.

        Returns:
            (N, S, S) grey levels.
        """
        images = np.empty((len(latents), self.size, self.size), np.uint8)
        # One at a time: an image never depends on those beside it, and more are hardly quicker.
        for place, latent in enumerate(latents):
            inputs: dict[str, NDArray[np.generic]] = {"latents": latent[None]}
            if self.facts.conditional:
                inputs["classes"] = np.array([number])
            (images[place : place + 1],) = self._session.run(None, inputs)
        return images


def class_number(label: str, labels: Sequence[str], *, conditional: bool) -> int:
    """The number of a class among those that a generator learned.

    Raises:
        XrayError: the generator does not make that class, or none on demand.
    """
    if len(labels) > 1 and not conditional:
        raise XrayError(
            f"This generator mixes {', '.join(labels)}, so the class of an image is unknown. Train "
            "one with --conditional, or with one class."
        )
    if label not in labels:
        raise XrayError(
            f"This generator makes {', '.join(labels)}, not {label!r}. Choose one of these."
        )
    return labels.index(label)


def _card_in(folder: Path) -> JsonObject:
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except ValueError as problem:
        raise BundleError(
            f"{folder / CARD} is not a card. Export the generator again."
        ) from problem
    if not isinstance(card, dict):
        raise BundleError(f"{folder / CARD} is not a card. Export the generator again.")
    return card
