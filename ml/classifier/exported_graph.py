"""The graph of a classifier: what it computes, and how it is made and read before calibration."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from onnxscript import ir
from torch import Tensor, nn

from ml.classifier.bundle import RULE_KEY
from ml.classifier.calibration import FamiliaritySpace
from ml.classifier.inputs import InputCache, image_side, network_inputs
from ml.classifier.lung_crop import LungCrop, place_on_whole
from ml.classifier.networks import ImageClassifier, Readout, backbone
from ml.data.loading import ImageSet
from ml.onnx_bytes import graph_bytes, image_program
from ml.onnx_runtime import open_graph
from ml.options.classifier import ClassifierOptions
from ml.progress import progress


class ClassifierReader(nn.Module):
    """A classifier as it reads whole images: with the crop to the lungs where it has one."""

    def __init__(self, network: ImageClassifier, options: ClassifierOptions):
        super().__init__()
        self.network = network
        side = backbone(options.network).size
        self.crop = LungCrop.load(side) if options.crop == "lungs" else None

    def read(self, images: Tensor) -> Readout:
        """(B, 1, S, S) grey levels, 0 to 255 -> readout; its maps lie over the whole images."""
        if self.crop is None:
            return self.network.read(images / 255)
        crops, boxes = self.crop(images)
        readout = self.network.read(crops / 255)
        return readout._replace(activation_map=place_on_whole(readout.activation_map, boxes))


class ExportedGraph(ClassifierReader):
    """The computation of the graph: grey levels in, readout and out-of-distribution score out."""

    def __init__(
        self, network: ImageClassifier, options: ClassifierOptions, space: FamiliaritySpace
    ):
        super().__init__(network, options)
        self.offset = nn.Buffer(torch.from_numpy(space.offset))
        self.projection = nn.Buffer(torch.from_numpy(space.projection))
        self.centres = nn.Buffer(torch.from_numpy(space.centres))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 1, S, S) uint8 -> logits, embedding, activation map, out-of-distribution score
        (B,).
        """
        readout = self.read(images.float())
        place = (readout.embedding - self.offset) @ self.projection
        gaps = place[:, None, :] - self.centres[None]
        ood_score = gaps.square().mean(dim=-1).sqrt().amin(dim=1)
        return readout.logits, readout.embedding, readout.activation_map, ood_score


class DraftGraph:
    """The graph before calibration, which reads images several times as fast as torch.

    Args:
        network: the classifier, on the CPU and in evaluation mode.
        options: of its training.
        classes: their number.
        dims: of the space of the out-of-distribution score.
    """

    def __init__(
        self, network: ImageClassifier, options: ClassifierOptions, classes: int, dims: int
    ):
        space = _empty_space(backbone(options.network).features, classes, dims)
        with progress("converting to ONNX"):
            self._program = image_program(
                ExportedGraph(network, options, space).eval(),
                image_side(options),
                [*Readout._fields, "ood_score"],
            )

    def read(self, whole: ImageSet, title: str) -> Readout:
        """What the network says about images.

        Args:
            whole: N images as the graph reads them.
            title: of the progress.
        """
        graph = self._program.model_proto.SerializeToString()
        session = open_graph(graph, threads=torch.get_num_threads())

        def run(images: Tensor) -> Readout:
            found = session.run(list(Readout._fields), {"images": images.numpy()})
            return Readout(*map(torch.from_numpy, found))

        return read_all(run, whole.images, title)

    def complete(self, space: FamiliaritySpace, rule: str) -> bytes:
        """The graph with the out-of-distribution score of a space, and a decision rule."""
        constants = self._program.model.graph.initializers
        for name in ("offset", "projection", "centres"):
            constants[name].const_value = ir.tensor(getattr(space, name), name=name)
        return graph_bytes(self._program, {RULE_KEY: rule})


def _empty_space(features: int, classes: int, dims: int) -> FamiliaritySpace:
    """A space of the right shape, which `DraftGraph.complete` replaces."""
    dims = min(dims, features)
    return FamiliaritySpace(
        np.zeros(features, np.float32),
        np.zeros((features, dims), np.float32),
        np.zeros((classes, dims), np.float32),
    )


@dataclass(frozen=True, slots=True)
class CropReader:
    """Reads crops as the network is shown them in training, each of which is made only once.

    Attributes:
        network: the classifier, on the CPU and in evaluation mode.
        options: of its training.
        cache: of crops.
    """

    network: ImageClassifier
    options: ClassifierOptions
    cache: InputCache | None = None

    def read(self, whole: ImageSet, title: str) -> Readout:
        """What the network says about images; its maps lie over the crops."""

        def run(images: Tensor) -> Readout:
            return self.network.read(images.float() / 255)

        return read_all(run, network_inputs(whole, self.options, self.cache).images, title)


@torch.inference_mode()
def read_all(
    read: Callable[[Tensor], Readout], images: NDArray[np.uint8], title: str, batch_size: int = 64
) -> Readout:
    """What the network says about (N, S, S) images, read in batches of (B, 1, S, S)."""
    parts = []
    with progress(title, len(images)) as counter:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            parts.append(read(torch.from_numpy(batch)[:, None]))
            counter.advance(len(batch))
    return Readout(*(torch.cat(column) for column in zip(*parts, strict=True)))
