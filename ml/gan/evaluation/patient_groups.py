"""Random draws by patient, for intervals and baselines that respect patient boundaries."""

import numpy as np
from numpy.typing import NDArray

from ml.errors import DataError
from ml.gan.evaluation.distances import Points

Groups = NDArray[np.str_]  # (N,) patient keys
Ints = NDArray[np.int64]
LEAST_IMAGES = 4


def draw_by_group(
    groups: NDArray[np.generic], n: int, random: np.random.Generator
) -> tuple[Ints, Ints]:
    """At most n images of groups in random order, and all images of the other groups.

    The last drawn group contributes as many images as are still needed; its other images belong to
    neither side.
    """
    _, group = np.unique(groups, return_inverse=True)
    order = random.permutation(group.max() + 1)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    images = np.argsort(rank[group], kind="stable")
    ends_inside = n > 0 and n < len(images) and group[images[n - 1]] == group[images[n]]
    rest = images[n:]
    if ends_inside:
        rest = rest[group[rest] != group[images[n - 1]]]
    return images[:n], rest


def patient_groups(patients: Groups | None, real: Points) -> NDArray[np.generic]:
    """Each image's patient; without patients every image is its own group."""
    if patients is None:
        return np.arange(len(real))
    if len(patients) != len(real):
        raise ValueError(f"There are {len(patients)} patient keys for {len(real)} images.")
    return patients


def require_enough_images(real: Points, samples: Points, least: int = LEAST_IMAGES) -> None:
    """Refuse sets of embeddings that are too small.

    Raises:
        DataError: a side has fewer images than `least`.
    """
    fewest = min(len(real), len(samples))
    if fewest < least:
        raise DataError(
            f"{len(real)} real and {len(samples)} synthetic images are too few. Give at least "
            f"{least} of each, or compare fewer."
        )
