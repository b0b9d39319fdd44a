"""Export of a trained lung segmentation network: an ONNX graph and a card with its Dice."""

import hashlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ml.errors import BundleError
from ml.evaluation import metrics
from ml.evaluation.metrics import Interval
from ml.imaging.lungs import GRAPH, PROBABILITY, LungCard, LungSegmenter
from ml.network_files import write_network
from ml.onnx_bytes import image_graph
from ml.options.lungs import LungOptions
from ml.segmentation.data import MaskedImages, load_masked_images
from ml.segmentation.network import ENCODER, ENCODER_BLOCKS, LungNetwork
from ml.segmentation.training import train_lungs
from ml.version import code_version

SIZE = 128
BATCH = 32
TOLERANCE = 1e-4
PREPROCESSING = (
    "grey image, higher is brighter; squeezed to the input size as a whole; grey levels stretched "
    "from the 1st to the 99th percentile to 0 to 255; the graph scales them to [-1, 1]"
)
SPLIT = "by patient: hash of the patient key; validation and test patients are held out"
LIMITATIONS = [
    "The masks are of images from papers and case collections, most of them of adults with "
    "COVID-19. Dice was measured on images of the same collections, not at another hospital.",
    "The mask finds the place of the lungs. It is too coarse to measure their size or what fills "
    "them, and dense opacities may be cut out of it.",
]
LICENCE = (
    "Research and non-commercial use: some of the training images are licensed CC BY-NC-SA or for "
    "research only."
)


class _ExportedGraph(nn.Module):
    """Grey levels in, probability of lung out."""

    def __init__(self, network: LungNetwork):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.network(images))


def train_and_export_lungs(
    data: Path,
    out: Path,
    options: LungOptions,
    *,
    on_epoch: Callable[[int, float], None] | None = None,
) -> LungCard:
    """Train on a data set's masks, measure on its held-out patients, and write graph and card.

    Args:
        data: a data set's folder, whose manifest names lung masks.
        out: the folder of `lungs.onnx` and `card.json`.
        options: of training.
        on_epoch: as in `train_lungs`.

    Raises:
        DataError: images or masks cannot be read, or there are too few.
        BundleError: the graph does not compute what the network computes.
    """
    training, held_out = load_masked_images(data, SIZE)
    network = train_lungs(training.images, training.small_masks(SIZE), options, on_epoch=on_epoch)
    return export_lungs(network, training, held_out, out, options)


def export_lungs(
    network: LungNetwork,
    training: MaskedImages,
    held_out: MaskedImages,
    out: Path,
    options: LungOptions,
) -> LungCard:
    """Export a network, compare the graph with it, measure the graph, write both files.

    Raises:
        BundleError: the graph does not compute what the network computes.
    """
    graph = image_graph(
        _ExportedGraph(network.cpu().eval()).eval(), held_out.images.shape[1], ["lung"]
    )
    parts = {"training": training, "held_out": held_out}
    unmeasured = LungCard(
        sha256=hashlib.sha256(graph).hexdigest(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        network=f"U-Net on the first {ENCODER_BLOCKS} blocks of {ENCODER}",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        input_size=held_out.images.shape[1],
        mask_size=held_out.images.shape[1] // 2,
        preprocessing=PREPROCESSING,
        options=options,
        images={name: len(part) for name, part in parts.items()},
        patients={name: len(set(part.patients.tolist())) for name, part in parts.items()},
        by_source={
            name: dict(Counter(record.source for record in part.records))
            for name, part in parts.items()
        },
        split=SPLIT,
        dice=Interval(0.0, 0.0, 0.0, 0),
        least_dice=0.0,
        limitations=LIMITATIONS,
        licence=LICENCE,
        code_version=code_version(),
    )
    segmenter = LungSegmenter(unmeasured, graph)
    _require_equal(network, segmenter, held_out.images[:BATCH])
    scores = dice_scores(segmenter, held_out)
    dice = mean_dice(scores, held_out.patients)
    card = unmeasured.model_copy(update={"dice": dice, "least_dice": float(scores.min())})
    write_network(out / GRAPH, graph, card)
    return card


def dice_scores(segmenter: LungSegmenter, images: MaskedImages) -> NDArray[np.float64]:
    """(N,) Dice of the probability map, enlarged to each image's own mask and cut at one half."""
    found = np.concatenate(
        [
            segmenter.probabilities(images.images[start : start + BATCH])
            for start in range(0, len(images), BATCH)
        ]
    )
    return np.array([_dice(own, mask) for own, mask in zip(found, images.masks, strict=True)])


def mean_dice(scores: NDArray[np.float64], patients: NDArray[np.str_]) -> Interval:
    """The mean of images' scores with its 95 % interval over patients."""

    def mean(images: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([scores[images].mean()])

    return metrics.bootstrap_each(mean, np.zeros(len(scores), np.int64), patients)[0]


def _dice(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    height, width = mask.shape
    enlarged = Image.fromarray(probability).resize((width, height), Image.Resampling.BILINEAR)
    found = np.asarray(enlarged) > PROBABILITY
    return float(2 * (found & mask).sum() / max(1, found.sum() + mask.sum()))


@torch.inference_mode()
def _require_equal(
    network: LungNetwork, segmenter: LungSegmenter, images: NDArray[np.uint8]
) -> None:
    ours = torch.sigmoid(network(torch.from_numpy(images)[:, None]))[:, 0].numpy()
    gap = float(np.abs(ours - segmenter.probabilities(images)).max())
    # Written so that a gap that is no number is refused as well.
    if not gap <= TOLERANCE:
        raise BundleError(
            f"The graph's probabilities differ from torch by {gap:.1e}. The export is not usable."
        )
