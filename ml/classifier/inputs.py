"""The images that a classifier's network is shown: whole ones, or crops to the lungs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.classifier.lung_crop import WHOLE_SIDE, LungCrop, crop_images
from ml.classifier.networks import backbone
from ml.data.loading import ImageSet, load_images
from ml.data.manifest import ImageRecord
from ml.options.classifier import ClassifierOptions


@dataclass(frozen=True, slots=True)
class InputCache:
    """Decoded images and their crops, for trainings in one process that share images."""

    decoded: dict[tuple[Path, int], NDArray[np.uint8]] = field(default_factory=dict)
    crops: dict[Path, NDArray[np.uint8]] = field(default_factory=dict)


def image_side(options: ClassifierOptions) -> int:
    """Side of the standardised images that a classifier reads, in pixels."""
    return WHOLE_SIDE if options.crop == "lungs" else backbone(options.network).size


def load_whole(
    records: Sequence[ImageRecord],
    options: ClassifierOptions,
    *,
    title: str,
    classes: Sequence[str],
    quiet: bool = False,
    cache: InputCache | None = None,
) -> ImageSet:
    """Decode and standardise images as the exported classifier reads them.

    Args:
        records: the images.
        options: of the classifier.
        title: what the progress bar says.
        classes: all classes, in the order of their numbers.
        quiet: shows no bar.
        cache: read and filled.

    Raises:
        DataError: names the images that cannot be read, or classes that are not among `classes`.
    """
    side = image_side(options)
    known = {} if cache is None else cache.decoded
    waiting = [record for record in records if (record.path, side) not in known]
    found = load_images(waiting, side, title=title, classes=classes, quiet=quiet)
    if cache is None:
        return found
    known |= {(one.path, side): image for one, image in zip(waiting, found.images, strict=True)}
    images = np.stack([known[record.path, side] for record in records])
    labels = np.array([classes.index(record.label) for record in records], dtype=np.int64)
    return ImageSet(list(records), images, labels)


def network_inputs(
    whole: ImageSet, options: ClassifierOptions, cache: InputCache | None = None
) -> ImageSet:
    """The same images as the network itself is shown them in training.

    Args:
        whole: from `load_whole`.
        options: of the classifier.
        cache: read and filled.

    Raises:
        BundleError: the lung segmentation network is damaged.
    """
    if options.crop == "none":
        return whole
    known = {} if cache is None else cache.crops
    waiting = [k for k, record in enumerate(whole.records) if record.path not in known]
    crop = LungCrop.load(backbone(options.network).size)
    crops = crop_images(whole.images[waiting], crop)
    known |= {whole.records[k].path: image for k, image in zip(waiting, crops, strict=True)}
    return replace(whole, images=np.stack([known[one.path] for one in whole.records]))
