"""Tests whether two sets of images come from the same distribution; numpy alone."""

from collections.abc import Sequence
from math import erfc, exp, gamma, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.binomial import beta_cdf
from ml.evaluation.metrics import Floats


class TwoSampleTest(NamedTuple):
    """The statistic of a test and the chance of one as large without a difference."""

    statistic: float
    p_value: float


def kolmogorov_smirnov(
    first: Sequence[float] | Floats, second: Sequence[float] | Floats
) -> TwoSampleTest:
    """The largest distance of two distribution functions (two-sample test, Smirnov, 1939).

    The p-value is the asymptotic one with Stephens' correction for small samples.
    """
    a, b = np.sort(np.asarray(first, float)), np.sort(np.asarray(second, float))
    both = np.concatenate([a, b])
    below = [np.searchsorted(own, both, side="right") / len(own) for own in (a, b)]
    distance = float(np.abs(below[0] - below[1]).max())
    root = sqrt(len(a) * len(b) / (len(a) + len(b)))
    return TwoSampleTest(distance, _kolmogorov_tail((root + 0.12 + 0.11 / root) * distance))


def _kolmogorov_tail(x: float) -> float:
    if x < 0.2:  # the series does not converge, and the tail is 1 in 12 digits
        return 1.0
    terms = [(1 if k % 2 else -1) * exp(-2 * (k * x) ** 2) for k in range(1, 101)]
    return min(1.0, max(0.0, 2 * sum(terms)))


def chi_square(first: Sequence[int], second: Sequence[int]) -> TwoSampleTest:
    """Whether two rows of counts have the same shares (Pearson's test of homogeneity, 1900).

    Categories that neither has are left out.
    """
    table = np.array([first, second], float)
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return TwoSampleTest(statistic, chi_square_tail(statistic, table.shape[1] - 1))


def chi_square_tail(x: float, degrees: int) -> float:
    """The chance that a chi-square variable of some degrees of freedom is above x."""
    if degrees < 1:
        return 1.0
    start, tail = (1, erfc(sqrt(x / 2))) if degrees % 2 else (2, exp(-x / 2))
    for k in range(start, degrees, 2):
        tail += (x / 2) ** (k / 2) * exp(-x / 2) / gamma(k / 2 + 1)
    return tail


class Moments(NamedTuple):
    """Mean (D,) and covariance (D, D) of N vectors."""

    mean: Floats
    covariance: NDArray[np.float64]
    images: int

    @classmethod
    def of(cls, vectors: NDArray[np.floating]) -> "Moments":
        """Those of (N, D) vectors."""
        exact = vectors.astype(np.float64)
        covariance = np.atleast_2d(np.cov(exact, rowvar=False))
        return cls(exact.mean(axis=0), covariance, len(exact))


def hotelling(first: Moments, second: Moments) -> TwoSampleTest:
    """Whether two sets of vectors have the same mean (Hotelling's two-sample T-squared, 1931).

    Returns:
        The distance of the means in pooled standard deviations (Mahalanobis), and the p-value. NaN
        and 1 where there are too few vectors.
    """
    size, degrees = len(first.mean), first.images + second.images - 2
    within = degrees - size + 1
    if within < 1:
        return TwoSampleTest(float("nan"), 1.0)
    pooled = (
        (first.images - 1) * first.covariance + (second.images - 1) * second.covariance
    ) / degrees
    gap = first.mean - second.mean
    square = float(gap @ np.linalg.pinv(pooled, hermitian=True) @ gap)
    weight = first.images * second.images / (first.images + second.images)
    f = weight * square * within / (degrees * size)
    # The upper tail of F with (size, within) degrees of freedom.
    p_value = beta_cdf(within / (within + size * f), within / 2, size / 2)
    return TwoSampleTest(sqrt(max(0.0, square)), p_value)
