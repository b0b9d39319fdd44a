"""Frechet inception distance (FID) at equal numbers of images, with its standard error.

FID (Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", 2017) is biased upwards, the more the fewer images. So it is compared at equal numbers
of images only, and beside the floor that real images reach (`ml.gan.evaluation.real_floor`).
"""

import numpy as np

from ml.gan.evaluation.distances import Floats, Points
from ml.gan.evaluation.kid import NORMAL_95
from ml.gan.evaluation.patient_groups import (
    LEAST_IMAGES,
    Groups,
    draw_by_group,
    patient_groups,
    require_enough_images,
)
from ml.gan.evaluation.results import FidMetric

HALVINGS = 20


def frechet_distance(real: Points, samples: Points) -> float:
    """The Frechet distance of two sets of embeddings, in float64.

    The trace of the root of the product of two covariances is the sum of the singular values of
    the product of the centred sets, a matrix of images by images. With hundreds of images and a
    thousand features this takes a thirtieth of the time of the usual root of a matrix of features
    by features, and equals it (`tests/ml/gan/evaluation/test_kid_and_fid.py` compares with
    torchmetrics).

    Raises:
        DataError: too few images.
    """
    require_enough_images(real, samples)
    (one, mean), (other, other_mean) = (_centred(points) for points in (real, samples))
    shift = np.square(mean - other_mean).sum()
    common = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return float(shift + np.square(one).sum() + np.square(other).sum() - 2 * common)


def _centred(points: Points) -> tuple[Floats, Floats]:
    """(N, F) minus their mean, scaled so that the squares sum to the variances; and the mean."""
    points = points.astype(np.float64)
    mean = points.mean(axis=0)
    return (points - mean) / np.sqrt(len(points) - 1), mean


def fid(
    real: Points,
    samples: Points,
    *,
    patients: Groups | None = None,
    n: int | None = None,
    halvings: int = HALVINGS,
    seed: int = 0,
) -> FidMetric:
    """The FID at an equal number of images, with its standard error.

    A bootstrap would be wrong here: an image drawn twice lowers the rank of the covariance, so
    every draw lies above the metric. Instead both sets are halved at random, without repetition,
    many times: the standard deviation over halves estimates the standard error of the whole (the
    delete-half jackknife; Shao and Wu, "A General Theory for Jackknife Variance Estimation",
    1989). Only the spread is taken from the halves, since their level is that of fewer images.
    The error is right where the sets differ, and up to twice too large where they hardly do.

    Args:
        real: (N, F) embeddings.
        samples: (M, F) embeddings.
        patients: (N,) keys; halves then share no patient. Each image its own where left out.
        n: images of each side, drawn at random from the larger sets; the smaller side by default.
        halvings: how often the sets are halved; 0 leaves the error out, as NaN.
        seed: of the draws.

    Raises:
        DataError: a side has fewer images than n, or than can be halved.
    """
    n = min(len(real), len(samples)) if n is None else n
    require_enough_images(
        real, samples, least=max(n, 2 * LEAST_IMAGES if halvings else LEAST_IMAGES)
    )
    groups = patient_groups(patients, real)
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(real))[:n])
    real, groups = real[chosen], groups[chosen]
    samples = samples[np.sort(random.permutation(len(samples))[:n])]
    value = frechet_distance(real, samples)
    halves = [
        frechet_distance(
            real[draw_by_group(groups, n // 2, random)[0]],
            samples[random.permutation(n)[: n // 2]],
        )
        for _ in range(halvings)
    ]
    error = float(np.std(halves, ddof=1)) if halvings > 1 else float("nan")
    reach = NORMAL_95 * error
    # A distance is never negative.
    low = max(0.0, value - reach) if error == error else error
    return FidMetric(value=value, error=error, low=low, high=value + reach, n=n)
