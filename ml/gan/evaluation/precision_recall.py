"""Are samples like real images, and are all real images represented: by nearest neighbours.

Precision and recall: Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing
Generative Models", 2019. Density and coverage: Naeem et al., "Reliable Fidelity and Diversity
Metrics for Generative Models", 2020. The real images' neighbourhood is the union of balls around
them, each reaching to its image's k-th nearest other one.
"""

from dataclasses import dataclass

import numpy as np

from ml.errors import DataError
from ml.gan.evaluation.distances import Floats, Points, distance_blocks, neighbour_radii

NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class Manifold:
    """Metrics of neighbourhoods; they depend on the numbers of images, which stand beside them.

    Attributes:
        precision: share of samples in the real images' neighbourhood.
        recall: share of real images in the samples' neighbourhood.
        density: mean number of balls around real images that a sample lies in, over k; may
            exceed 1. Unlike precision it is not moved by one outlying real image.
        coverage: share of real images with a sample in their ball.
        realism: (M,) of each sample: the largest ratio of a ball's radius to the sample's distance
            from its centre, over the smaller half of the balls; 1 or more inside one of them
            (section 5 of Kynkaanniemi et al.).
        real: number of real images.
        samples: number of samples.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    realism: Floats
    real: int
    samples: int


def manifold(real: Points, samples: Points, k: int = NEIGHBOURS) -> Manifold:
    """Compare the neighbourhoods of real images and samples.

    Args:
        real: (N, F) embeddings.
        samples: (M, F) embeddings; as many as real images where recall is to mean something.
        k: neighbours that make a ball.

    Raises:
        DataError: a side has k images or fewer.
    """
    if min(len(real), len(samples)) <= k:
        raise DataError(
            f"expected more than {k} images on each side, got {len(real)} real and "
            f"{len(samples)} synthetic ones"
        )
    real_radii, sample_radii = neighbour_radii(real, k), neighbour_radii(samples, k)
    balls = np.zeros(len(samples))
    realism = np.zeros(len(samples))
    covered, recalled = np.zeros((2, len(real)), bool)
    for rows, distance in distance_blocks(samples, real):
        inside = distance <= real_radii  # (B, N)
        balls[rows] = inside.sum(axis=1)
        covered |= inside.any(axis=0)
        recalled |= (distance <= sample_radii[rows, None]).any(axis=0)
        realism[rows] = realism_of(distance, real_radii)
    return Manifold(
        precision=float((balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls.mean() / k),
        coverage=float(covered.mean()),
        realism=realism,
        real=len(real),
        samples=len(samples),
    )


def realism_of(distance: Floats, radii: Floats) -> Floats:
    """How realistic each sample is by itself, as `Manifold.realism`.

    Args:
        distance: (M, N) of samples to real images.
        radii: (N,) of the balls around the real images (`neighbour_radii`).

    Returns:
        (M,).
    """
    # A lonely real image has a ball that holds anything.
    trusted = radii <= np.median(radii)
    # A copy of a real image lies at no distance: as real as can be told apart from infinity.
    nearness: Floats = radii[trusted] / np.maximum(distance[:, trusted], 1e-9)
    realism: Floats = nearness.max(axis=1)
    return realism
