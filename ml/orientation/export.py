"""Export of a trained orientation check: an ONNX graph and a card with what it finds."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ml.data.left_out import images_left_out, without_left_out
from ml.data.loading import ImageSet, load_images
from ml.data.manifest import ImageRecord, read_manifest, real_images
from ml.data.splits import Split
from ml.errors import BundleError, DataError
from ml.evaluation.metrics import Interval
from ml.imaging.corrections import Orientation
from ml.imaging.orientation import (
    GRAPH,
    ROTATIONS,
    OrientationCard,
    OrientationCheck,
    OrientationMetrics,
)
from ml.imaging.types import GreyImage
from ml.network_files import write_network
from ml.onnx_bytes import image_graph
from ml.options.orientation import OrientationOptions
from ml.orientation.network import OrientationNetwork
from ml.orientation.not_chest import KINDS, one_of
from ml.orientation.training import train_orientation
from ml.version import code_version

SIZE = 64
BATCH = 256
TOLERANCE = 1e-3
DRAWN_PER_KIND = 200
NETWORK = "five 3x3 convolutions with stride 2 (16 to 96 channels), one linear layer"
LIMITATIONS = [
    "The pictures that are no chest X-ray are drawn, shuffled or photographs: X-rays of other body "
    "parts and lateral chest X-rays were not measured, and many of them will pass.",
    "A left-right mirror image is not found.",
]
LICENCE = (
    "Research and non-commercial use: some of the training images are licensed CC BY-NC-SA or for "
    "research only."
)


@dataclass(frozen=True, slots=True)
class Examples:
    """What trains and what measures.

    Attributes:
        training: images of the training patients of the sites that train.
        held_out: images of the validation and test patients of these sites.
        left_out: all images of the site that has no part in training; empty without one.
        photographs: pictures of other things that train.
        other_photographs: those that measure.
    """

    training: ImageSet
    held_out: ImageSet
    left_out: ImageSet
    photographs: list[GreyImage]
    other_photographs: list[GreyImage]


def train_and_export_orientation(
    data: Path,
    out: Path,
    options: OrientationOptions,
    *,
    photographs: Path | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> OrientationCard:
    """Train on a data set, measure on patients and a site that had no part, write graph and card.

    Args:
        data: a data set's folder.
        out: the folder of `orientation.onnx` and `card.json`.
        options: of training.
        photographs: a folder of pictures that are no X-rays.
        on_epoch: as in `train_orientation`.

    Raises:
        DataError: images cannot be read, or there are too few.
        BundleError: the graph does not compute what the network computes.
    """
    loaded = load_examples(data, options, photographs)
    network = train_orientation(
        loaded.training.images, loaded.photographs, options, on_epoch=on_epoch
    )
    return export_orientation(network, loaded, out, options)


def load_examples(
    data: Path, options: OrientationOptions, photographs: Path | None = None
) -> Examples:
    """Read images of a data set, split by patient and site, and photographs, split by number."""
    records = real_images(read_manifest(data))
    trained = without_left_out(records, options.leave_out)
    pictures = _photographs(photographs)
    return Examples(
        training=_load([record for record in trained if record.split is Split.TRAIN]),
        held_out=_load([record for record in trained if record.split is not Split.TRAIN]),
        left_out=_load(images_left_out(records, options.leave_out)),
        photographs=pictures[::2],
        other_photographs=pictures[1::2],
    )


def export_orientation(
    network: OrientationNetwork, examples: Examples, out: Path, options: OrientationOptions
) -> OrientationCard:
    """Export a network, compare the graph with it, measure the graph, write both files.

    Raises:
        DataError: no image is left to measure on.
        BundleError: the graph does not compute what the network computes.
    """
    groups = {"left_out_site": examples.left_out, "held_out_patients": examples.held_out}
    groups = {name: images for name, images in groups.items() if len(images)}
    if not groups:
        raise DataError("No image is left to measure on. Add patients, or leave out a site")
    graph = image_graph(network.cpu().eval(), SIZE, ["logits"])
    unmeasured = OrientationCard(
        sha256=hashlib.sha256(graph).hexdigest(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        network=NETWORK,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        input_size=SIZE,
        options=options,
        by_site=dict(Counter(record.site for record in examples.training.records)),
        left_out=options.leave_out,
        metrics={},
        not_chest_found={},
        limitations=LIMITATIONS,
        licence=LICENCE,
        code_version=code_version(),
    )
    check = OrientationCheck(unmeasured, graph)
    _require_equal(network, check, next(iter(groups.values())).images[:BATCH])
    card = unmeasured.model_copy(
        update={
            "metrics": {name: measure(check, images) for name, images in groups.items()},
            "not_chest_found": _not_chest_found(check, examples),
        }
    )
    write_network(out / GRAPH, graph, card)
    return card


def measure(check: OrientationCheck, images: ImageSet) -> OrientationMetrics:
    """What a check finds in upright images, as they are, inverted, and turned."""
    plain = _find(check, images.images)
    inverted = _find(check, ~images.images)
    turned = [
        # Turned by k, it takes 4 - k more to be upright.
        [
            found == Orientation(quarter_turns=ROTATIONS - k)
            for found in _find(check, turned_by(images.images, k))
        ]
        for k in range(1, ROTATIONS)
    ]
    return OrientationMetrics(
        images=len(images),
        patients=len(set(images.patients.tolist())),
        inverted_found=wilson_share([found == Orientation(inverted=True) for found in inverted]),
        rotated_found=wilson_share(np.mean(turned, axis=0)),
        false_alarms=wilson_share([not found.upright for found in plain]),
        chest_doubted=wilson_share([not found.chest for found in plain]),
    )


def turned_by(images: NDArray[np.uint8], quarter_turns: int) -> NDArray[np.uint8]:
    """(N, S, S) -> (N, S, S), turned counter-clockwise."""
    return np.ascontiguousarray(np.rot90(images, quarter_turns, (1, 2)))


def wilson_share(found: Sequence[bool] | NDArray[np.float64]) -> Interval:
    """The mean of (N,) values from 0 to 1 with the 95 % score interval of Wilson (1927).

    Near 0 and 1 a bootstrap draws nothing but the same value.
    """
    count, z = len(found), 1.959964
    value = float(np.mean(found))
    middle = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(value * (1 - value) / count + z**2 / (4 * count**2))
    return Interval(value, max(0.0, float(middle - half)), min(1.0, float(middle + half)), count)


def _find(check: OrientationCheck, images: NDArray[np.uint8]) -> list[Orientation]:
    starts = range(0, len(images), BATCH)
    return [found for start in starts for found in check.find_all(images[start : start + BATCH])]


def _not_chest_found(check: OrientationCheck, examples: Examples) -> dict[str, Interval]:
    random = np.random.default_rng(examples.training.images.shape[0])
    xrays = examples.held_out.images if len(examples.held_out) else examples.left_out.images
    kinds = [*KINDS, "shuffled", *(["photograph"] if examples.other_photographs else [])]
    found = {}
    for kind in kinds:
        pictures = [
            one_of(kind, xrays, examples.other_photographs, random) for _ in range(DRAWN_PER_KIND)
        ]
        found[kind] = wilson_share([not each.chest for each in _find(check, np.stack(pictures))])
    return found


def _photographs(folder: Path | None) -> list[GreyImage]:
    pictures = []
    for path in sorted(folder.iterdir()) if folder else ():
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            with Image.open(path) as opened:
                pictures.append(np.asarray(opened.convert("L")))
    return pictures


def _load(records: list[ImageRecord]) -> ImageSet:
    return load_images(records, SIZE, title="reading images")


@torch.inference_mode()
def _require_equal(
    network: OrientationNetwork, check: OrientationCheck, images: NDArray[np.uint8]
) -> None:
    ours = network(torch.from_numpy(images)[:, None]).numpy()
    gap = float(np.abs(ours - check.logits(images)).max())
    # Written so that a gap that is no number is refused as well.
    if not gap <= TOLERANCE:
        raise BundleError(
            f"The graph's logits differ from torch by {gap:.1e}. The export is not usable."
        )
