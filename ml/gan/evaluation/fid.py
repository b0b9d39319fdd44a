"""Frechet inception distance (Heusel et al. 2017), with its bias at small sample sizes shown."""

from dataclasses import dataclass

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

HALVINGS = 20


@dataclass(frozen=True, slots=True)
class Fid:
    """A Frechet distance of `n` images to `n` others, with its standard error."""

    value: float
    error: float
    n: int

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval; a distance is never negative."""
        return max(0.0, self.value - NORMAL_95 * self.error)

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + NORMAL_95 * self.error


def frechet_distance(real: Points, samples: Points) -> float:
    """The Frechet distance of two sets of embeddings, in float64.

    The trace of the root of the product of two covariances is the sum of the singular values of
    what the centred sets have in common, a matrix of images by images. With hundreds of images of a
    thousand features that takes a thirtieth of the time of a root of features by features, as
    libraries compute it, and equals it (`tests/ml/gan/evaluation/test_kid_and_fid.py` compares
    with torchmetrics).

    Raises:
        DataError: too few images.
    """
    require_enough_images(real, samples)
    (one, mean), (other, other_mean) = (_centred(points) for points in (real, samples))
    shift = np.square(mean - other_mean).sum()
    common = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return float(shift + np.square(one).sum() + np.square(other).sum() - 2 * common)


def _centred(points: Points) -> tuple[Floats, Floats]:
    """(N, F) less their mean, scaled so that the squares sum to the variances; and the mean."""
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
) -> Fid:
    """The FID at an equal number of images, with its standard error.

    A bootstrap would be wrong here: an image drawn twice takes rank from the covariance, so every
    draw lies above the metric. Instead both sets are halved at random, without repetition, many
    times: the standard deviation over halves estimates the standard error of the whole (the
    delete-half jackknife; Shao and Wu, "A General Theory for Jackknife Variance Estimation",
    1989). Only the spread is taken from the halves, since their own level is that of fewer images.
    The error is right where the sets differ and too large, up to twice, where they hardly do.

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
    return Fid(value, error, n)
