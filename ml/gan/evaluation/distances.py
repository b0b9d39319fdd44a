"""Distances between points: images' embeddings, or the images themselves made small."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]  # (N, F)
Floats = NDArray[np.float64]
# Rows compared at once: 40 MB of distances to 10,000 points.
_BLOCK = 512
# Side that images are averaged down to where pixels are compared.
_SIDE = 32


def pixel_points(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images as points without any network: (N, S, S) -> (N, F), grey levels from 0 to 1.

    Images of 64 px and more are averaged in square boxes: the noise of single pixels says little
    about what an image shows, and less is quicker.
    """
    factor = max(1, images.shape[1] // _SIDE)
    side = images.shape[1] // factor
    trimmed = images[:, : side * factor, : side * factor]
    boxes = trimmed.reshape(len(images), side, factor, side, factor)
    points: NDArray[np.float32] = boxes.mean(axis=(2, 4), dtype=np.float32) / 255
    return points.reshape(len(images), side * side)


def distances(points: Points, references: Points) -> Floats:
    """Euclidean distances, (M, F), (N, F) -> (M, N)."""
    rows, columns = points.astype(np.float64), references.astype(np.float64)
    squared = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1) - 2 * rows @ columns.T
    # Rounding can make the square of a very small distance negative.
    roots: Floats = np.sqrt(np.maximum(squared, 0.0))
    return roots


def distance_blocks(points: Points, references: Points) -> Iterator[tuple[slice, Floats]]:
    """The rows of `distances`, some hundred at a time, so that memory stays bounded."""
    references = references.astype(np.float64)
    for start in range(0, len(points), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(points)))
        yield rows, distances(points[rows], references)


def nearest(points: Points, references: Points) -> tuple[Floats, NDArray[np.int64]]:
    """Every point's nearest reference: its distance (M,) and its number (M,)."""
    distance = np.empty(len(points))
    number = np.empty(len(points), np.int64)
    for rows, block in distance_blocks(points, references):
        number[rows] = block.argmin(axis=1)
        distance[rows] = block.min(axis=1)
    return distance, number


def neighbour_radii(points: Points, k: int) -> Floats:
    """Distance of every point to its k-th nearest other one, (N, F) -> (N,).

    Raises:
        ValueError: there are not more than k points.
    """
    if len(points) <= k:
        raise ValueError(f"expected more than {k} points to find {k} neighbours, got {len(points)}")
    radii = np.empty(len(points))
    for rows, block in distance_blocks(points, points):
        # A point is not its own neighbour.
        block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = np.inf
        radii[rows] = np.partition(block, k - 1, axis=1)[:, k - 1]
    return radii


def mean_pairwise_distance(points: Points) -> float:
    """Mean distance of two different points.

    Raises:
        ValueError: there are not two points.
    """
    if len(points) < 2:
        raise ValueError(f"expected two points or more, got {len(points)}")
    total = sum(float(block.sum()) for _, block in distance_blocks(points, points))
    return total / (len(points) * (len(points) - 1))


def diversity(samples: Points, real: Points) -> float:
    """Mean distance of two samples over that of two real images: 1 as varied as real, 0 collapsed.

    Args:
        samples: (M, F) embeddings, or `pixel_points`, which need no network.
        real: (N, F) of images of the same classes.

    Raises:
        ValueError: fewer than two points on a side, or all real ones equal.
    """
    spread = mean_pairwise_distance(real)
    if spread == 0:
        raise ValueError("all real images are equal: there is no diversity to compare with")
    return mean_pairwise_distance(samples) / spread
