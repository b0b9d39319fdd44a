"""Precision, recall, density and coverage: fidelity and diversity by nearest neighbours.

Precision and recall: Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing
Generative Models", 2019. Density and coverage: Naeem et al., "Reliable Fidelity and Diversity
Metrics for Generative Models", 2020. The real images' neighbourhood is the union of balls around
them, each reaching to its image's k-th nearest other one.
"""

import numpy as np

from ml.errors import DataError
from ml.gan.evaluation.distances import Floats, Points, distance_blocks, neighbour_radii
from ml.gan.evaluation.results import ManifoldMetrics

NEIGHBOURS = 5


def manifold(real: Points, samples: Points, k: int = NEIGHBOURS) -> ManifoldMetrics:
    """Compare the neighbourhoods of real images and samples.

    Args:
        real: (N, F) embeddings.
        samples: (M, F) embeddings; recall needs as many as real images.
        k: neighbours that make a ball.

    Raises:
        DataError: a side has k images or fewer.
    """
    if min(len(real), len(samples)) <= k:
        raise DataError(
            f"{len(real)} real and {len(samples)} synthetic images are too few. Give more than {k} "
            "of each."
        )
    real_radii, sample_radii = neighbour_radii(real, k), neighbour_radii(samples, k)
    balls = np.zeros(len(samples))
    covered, recalled = np.zeros((2, len(real)), bool)
    for rows, distance in distance_blocks(samples, real):
        inside = distance <= real_radii  # (B, N)
        balls[rows] = inside.sum(axis=1)
        covered |= inside.any(axis=0)
        recalled |= (distance <= sample_radii[rows, None]).any(axis=0)
    return ManifoldMetrics(
        precision=float((balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls.mean() / k),
        coverage=float(covered.mean()),
        real=len(real),
        samples=len(samples),
    )


def sample_realism(distance: Floats, radii: Floats) -> Floats:
    """How realistic each sample is (section 5 of Kynkaanniemi et al.).

    The largest ratio of a ball's radius to the sample's distance from its centre, over the smaller
    half of the balls: 1 or more inside one of them.

    Args:
        distance: (M, N) of samples to real images.
        radii: (N,) of the balls around the real images (`neighbour_radii`).

    Returns:
        (M,).
    """
    # The ball of an isolated real image would contain anything.
    trusted = radii <= np.median(radii)
    # A copy of a real image has distance 0: a very large ratio, but finite.
    nearness: Floats = radii[trusted] / np.maximum(distance[:, trusted], 1e-9)
    realism: Floats = nearness.max(axis=1)
    return realism
