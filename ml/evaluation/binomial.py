"""Exact limits of a share: what a count of independent images says about all others."""

from math import exp, lgamma, log, log1p

from ml.evaluation.metrics import Interval

CONFIDENCE = 0.95
_STEPS, _TINY = 300, 1e-300


def clopper_pearson(hits: int, images: int, confidence: float = CONFIDENCE) -> Interval:
    """A share with its exact two-sided interval (Clopper and Pearson, 1934).

    NaN, from 0 to 1, where there is no image.
    """
    if not images:
        return Interval(float("nan"), 0.0, 1.0, 0)
    one_sided = (1 + confidence) / 2
    low, high = lower_limit(hits, images, one_sided), upper_limit(hits, images, one_sided)
    return Interval(hits / images, low, high, images)


def upper_limit(hits: int, images: int, confidence: float = CONFIDENCE) -> float:
    """The highest share that is not refuted, one-sided."""
    if hits >= images:
        return 1.0
    return _beta_quantile(hits + 1, images - hits, confidence)


def lower_limit(hits: int, images: int, confidence: float = CONFIDENCE) -> float:
    """The lowest share that is not refuted, one-sided."""
    if hits <= 0:
        return 0.0
    return _beta_quantile(hits, images - hits + 1, 1 - confidence)


def images_needed(most: float, confidence: float = CONFIDENCE) -> int:
    """Images of which none may be a hit, so that the upper limit of their share is at most this."""
    needed = max(1, int(log(1 - confidence) / log(1 - most)) - 1)
    while upper_limit(0, needed, confidence) > most:
        needed += 1
    return needed


def _beta_quantile(a: float, b: float, level: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cdf(middle, a, b) < level else (low, middle)
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function (DLMF 8.17.22, evaluated as Lentz has it)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # The fraction converges fast on this side of the mean.
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
