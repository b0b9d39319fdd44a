"""Sampling weights, and which images a classifier trains on."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.data.manifest import ImageRecord, labels_of
from ml.errors import DataError


def sampling_weights(
    records: Sequence[ImageRecord], synthetic_share: float = 0.5
) -> NDArray[np.float64]:
    """(N,) chances that balance the classes and soften the imbalance of their sources.

    Every class is drawn equally often. Within a class a source counts by the square root of its
    size: a small hospital is seen more often than its share, yet its few images are not repeated
    endlessly. Where a class has real images and synthetic ones, each kind is divided so by itself.

    Args:
        records: N images.
        synthetic_share: chance that an image drawn of a class that has both kinds is synthetic,
            however many there are.
    """
    images = Counter((record.label, record.source, bool(record.synthetic)) for record in records)
    mass = {key: math.sqrt(count) for key, count in images.items()}
    of_kind: dict[tuple[str, bool], float] = {}
    for (label, _, synthetic), part in mass.items():
        of_kind[label, synthetic] = of_kind.get((label, synthetic), 0.0) + part
    weights = []
    for record in records:
        key = record.label, record.source, bool(record.synthetic)
        weight = mass[key] / of_kind[record.label, bool(record.synthetic)] / images[key]
        if (record.label, not record.synthetic) in of_kind:
            weight *= synthetic_share if record.synthetic else 1 - synthetic_share
        weights.append(weight)
    chances: NDArray[np.float64] = np.array(weights) / np.sum(weights)
    return chances


def require_classes(labels: Sequence[str]) -> None:
    """Check that there are at least two classes.

    Raises:
        DataError: there are fewer than two classes.
    """
    if len(labels) < 2:
        raise DataError(
            f"All images are of the class {', '.join(labels)}. A classifier needs at least two "
            "classes. Add images of another class."
        )


def require_all_classes(records: Sequence[ImageRecord], name: str, labels: Sequence[str]) -> None:
    """Check that a split has images of every class.

    Raises:
        DataError: names the classes that the split has no image of.
    """
    missing = set(labels) - {record.label for record in records}
    if missing:
        raise DataError(
            f"The {name} split has no image of {', '.join(sorted(missing))}. "
            "Add images of more patients with this class."
        )


def count_synthetic(images: Sequence[ImageRecord]) -> dict[str, dict[str, int]]:
    """Synthetic images: SHA-256 of their generator -> label -> count; empty where none is.

    The counts have every class of the images, the real ones too.
    """
    labels = labels_of(images)
    counts: dict[str, dict[str, int]] = {}
    for image in images:
        if image.synthetic:
            of_generator = counts.setdefault(image.synthetic, dict.fromkeys(labels, 0))
            of_generator[image.label] += 1
    return counts
