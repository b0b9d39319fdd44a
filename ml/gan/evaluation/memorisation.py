"""Memorisation: do samples copy the images that the generator was trained on?

A distance to a training image is suspicious where images of other people do not come as near, so
every sample is compared with held-out real images, of patients in no training set. A mirrored copy
is a copy too: measure distances against `with_mirrored(training)`.

No space detects every kind of copy. On chest X-rays of 64 px, pixels
(`ml.gan.evaluation.distances.pixel_points`) and the perceptual hash find copies that were blurred
or made noisy, which embeddings miss, and embeddings find copies that were shifted, which pixels and
the hash miss. So use several, and trust the one that reports a copy.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.data.near_duplicates import MAX_DISTANCE, Hashes, close_to, image_hash
from ml.errors import DataError
from ml.evaluation.metrics import auroc
from ml.gan.evaluation.distances import Floats, Points, nearest
from ml.gan.evaluation.results import RegionCopying
from ml.imaging.types import GreyImages

Flags = NDArray[np.bool_]
# Cells with fewer images of either side are too small for a statistic.
LEAST_IN_CELL = 20
CELLS = 5


def with_mirrored(images: GreyImages) -> GreyImages:
    """Images followed by their mirror images: (N, S, S) -> (2 N, S, S)."""
    return np.concatenate([images, images[:, :, ::-1]])


def nearest_percentiles(samples: Floats, held_out: Floats) -> Floats:
    """Percentile of each sample's distance to its nearest training image, (M,) in [0, 1].

    It is the share of held-out real images that are at least as close to a training image as the
    sample is. Low is suspicious: at 0 the sample is closer to a training image than any real image
    of another patient. Images that do not depend on the training images spread evenly over 0 to 1.

    Args:
        samples: (M,) distances of samples to their nearest training image (`nearest`).
        held_out: (N,) the same of held-out real images.

    Raises:
        DataError: there is no held-out image.
    """
    if not len(held_out):
        raise DataError(
            "There is no held-out real image to compare samples with. Add images to the "
            "validation split."
        )
    percentiles: Floats = np.searchsorted(np.sort(held_out), samples, side="right") / len(held_out)
    return percentiles


@dataclass(frozen=True, slots=True)
class Closeness:
    """How close samples are to the training images, in one space.

    Attributes:
        percentiles: (M,) of each sample, as `nearest_percentiles` gives them.
        nearest: (M,) number of each sample's nearest training image.
        copying: C_T, as `copying_statistic` gives it.
    """

    percentiles: Floats
    nearest: NDArray[np.int64]
    copying: float


def closeness(samples: Points, held_out: Points, training: Points) -> Closeness:
    """Measure samples against held-out real images by their distances to the training images.

    Args:
        samples: (M, F) embeddings or `pixel_points`.
        held_out: (N, F) of real images of the same classes and of other patients.
        training: (T, F), of mirrored images too: those of `with_mirrored`.

    Raises:
        DataError: a set is empty.
    """
    if not len(training):
        raise DataError(
            "There is no training image that a sample could copy. Add images to the training split."
        )
    distance, number = nearest(samples, training)
    of_held_out = nearest(held_out, training)[0]
    return Closeness(
        nearest_percentiles(distance, of_held_out),
        number,
        copying_statistic(distance, of_held_out),
    )


def copying_statistic(samples: Floats, held_out: Floats) -> float:
    """C_T over the whole space: positive where samples are farther from training images than real.

    The Z-scored Mann-Whitney U of the two sets of distances (Meehan, Chaudhuri, Dasgupta, "A
    Non-Parametric Test to Detect Data-Copying in Generative Models", 2020), with its variance
    corrected for ties. About standard normal where samples are as far from the training images as
    held-out images; below -3 indicates data copying, far above 3 that samples miss the data.
    Several images of one patient inflate it.

    Args:
        samples: (M,) distances of samples to their nearest training image.
        held_out: (N,) the same of held-out real images.

    Raises:
        DataError: a side is empty.
    """
    m, n = len(samples), len(held_out)
    if not m or not n:
        raise DataError(f"Copying needs samples and held-out images. There are {m} and {n}.")
    both = np.concatenate([samples, held_out])
    _, ties = np.unique(both, return_counts=True)
    # Two sides have at least two images, so nothing is divided by zero.
    ties_term = float((ties.astype(np.float64) ** 3 - ties).sum()) / ((m + n) * (m + n - 1))
    variance = (m + n + 1 - ties_term) / (12 * m * n)
    if variance <= 0:
        return 0.0
    # The area under the ROC curve is U over its greatest value, m n.
    area = auroc(np.arange(m + n) < m, both)
    return float((area - 0.5) / np.sqrt(variance))


def copying_by_cell(
    samples: Points,
    held_out: Points,
    training: Points,
    *,
    cells: int = CELLS,
    least: int = LEAST_IN_CELL,
    seed: int = 0,
) -> RegionCopying:
    """C_T by regions of the space, which finds copying in one region that the others hide.

    The training images are clustered by k-means; within each cluster the distances of its samples
    and held-out images to its training images are compared (sections 3.2 and 3.3 of Meehan et al.).

    Args:
        samples: (M, F) embeddings.
        held_out: (N, F) embeddings.
        training: (T, F) embeddings.
        cells: number of clusters.
        least: cells with fewer samples or held-out images are left out.
        seed: of the clustering.

    Raises:
        DataError: fewer training images than cells.
    """
    from sklearn.cluster import KMeans

    if len(training) < cells:
        raise DataError(
            f"{len(training)} training images are too few for {cells} cells. Add training images."
        )
    clusters = KMeans(cells, n_init=3, random_state=seed).fit(training.astype(np.float64))
    of_training = clusters.labels_
    of_samples = clusters.predict(samples.astype(np.float64))
    of_held_out = clusters.predict(held_out.astype(np.float64))
    statistics, weights = [], []
    for cell in range(cells):
        here, real_here = of_samples == cell, of_held_out == cell
        if min(here.sum(), real_here.sum()) < least:
            continue
        own = training[of_training == cell]
        statistics.append(
            copying_statistic(nearest(samples[here], own)[0], nearest(held_out[real_here], own)[0])
        )
        weights.append(int(real_here.sum()))
    if not statistics:
        return RegionCopying(value=float("nan"), lowest=float("nan"), cells=0)
    mean = float(np.average(statistics, weights=weights))
    return RegionCopying(value=mean, lowest=min(statistics), cells=len(statistics))


def exact_copies(samples: GreyImages, training: GreyImages) -> Flags:
    """(M,) whether a sample equals a training image or its mirror image in every pixel."""
    known = {_digest(image) for image in with_mirrored(training)}
    return np.array([_digest(image) in known for image in samples], bool)


def _digest(image: GreyImages) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def hash_all(images: GreyImages) -> Hashes:
    """Perceptual hashes of images, (N, S, S) -> (N, CUTS, WORDS)."""
    return np.stack([image_hash(image) for image in images])


def near_copies(
    samples: GreyImages, training: GreyImages, max_distance: int = MAX_DISTANCE
) -> Flags:
    """(M,) whether a sample is a near-duplicate of a training image or of its mirror image.

    By the perceptual hash that finds duplicates in data sets (`ml.data.near_duplicates`): it sees
    coarse
    structure, so a copy stays one when its brightness changes, it is compressed, blurred or
    slightly cut. Now and then images of different people are that alike: compare with the share
    among held-out real images.
    """
    return close_to(hash_all(samples), hash_all(with_mirrored(training)), max_distance)
