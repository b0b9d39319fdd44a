"""Divergences between real and synthetic images, as the report's chapter 3 discusses them.

Kullback-Leibler (KL), which is unbounded and not symmetric, Jensen-Shannon (JS), at most log 2,
and Wasserstein-1, which falls steadily as two distributions approach each other. KL and JS are in
nats, Wasserstein in the unit of the compared values.
"""

import numpy as np
from numpy.typing import NDArray

from ml.gan.evaluation.distances import Floats, Points
from ml.gan.evaluation.results import DivergenceMetrics

Counts = NDArray[np.int64]
GREY_LEVELS = 256
AXES = 16
BINS = 16
# Observations added to every bin before KL: half of one (Jeffreys' prior), so that a bin which only
# one side has filled costs much, but not infinitely much.
PSEUDO_COUNT = 0.5


def histogram_divergences(real: Counts, samples: Counts) -> DivergenceMetrics:
    """Divergences of two histograms over the same bins, (B,) counts each.

    KL is of counts smoothed by `PSEUDO_COUNT`, JS and Wasserstein of the counts as they are.
    Wasserstein is in bins.

    Raises:
        ValueError: a histogram is empty, or they have different bins.
    """
    if real.shape != samples.shape or real.ndim != 1:
        raise ValueError(
            f"expected two histograms over the same bins: {real.shape} {samples.shape}"
        )
    if real.sum() == 0 or samples.sum() == 0:
        raise ValueError("an empty histogram has no distribution")
    p, q = _share(real), _share(samples)
    smooth_p, smooth_q = _share(real + PSEUDO_COUNT), _share(samples + PSEUDO_COUNT)
    middle = (p + q) / 2
    return DivergenceMetrics(
        kl_real_samples=_kl(smooth_p, smooth_q),
        kl_samples_real=_kl(smooth_q, smooth_p),
        js=(_kl(p, middle) + _kl(q, middle)) / 2,
        wasserstein=float(np.abs(np.cumsum(p - q)).sum()),
    )


def _share(counts: Counts | NDArray[np.floating]) -> Floats:
    shares: Floats = counts.astype(np.float64) / counts.sum()
    return shares


def _kl(p: Floats, q: Floats) -> float:
    """Sum of p log(p / q) where p is positive; q must be positive there."""
    some = p > 0
    return max(0.0, float((p[some] * np.log(p[some] / q[some])).sum()))


def pixel_divergences(real: NDArray[np.uint8], samples: NDArray[np.uint8]) -> DivergenceMetrics:
    """Divergences of the grey levels of two sets of images, (N, S, S) and (M, S, S).

    Over all pixels of all images, one bin per grey level; Wasserstein in grey levels.
    """
    return histogram_divergences(_grey_levels(real), _grey_levels(samples))


def _grey_levels(images: NDArray[np.uint8]) -> Counts:
    """(256,) how often each grey level occurs."""
    counts = np.zeros(GREY_LEVELS, np.int64)
    # Image by image: counting turns every pixel into eight bytes.
    for image in images:
        counts += np.bincount(image.ravel(), minlength=GREY_LEVELS)
    return counts


def embedding_divergences(
    real: Points, samples: Points, *, axes: int = AXES, bins: int = BINS
) -> DivergenceMetrics:
    """Divergences of embeddings, the mean over the real images' leading principal axes.

    A density in a thousand dimensions cannot be estimated from some hundred images, the one along
    an axis can. Along each axis: KL and JS of histograms whose bins hold equal shares of the real
    images, the outer ones open; the Wasserstein-1 distance of the projections themselves, in
    standard deviations of the real images on that axis. Few images make all of them positive
    also where nothing differs: compare with two halves of real images.

    Args:
        real: (N, F) embeddings.
        samples: (M, F) embeddings.
        axes: at most so many axes; no more than the real images spread along.
        bins: of each axis.

    Raises:
        ValueError: fewer real images than bins, no sample, or all real images equal.
    """
    if len(real) < bins or not len(samples):
        raise ValueError(
            f"{len(real)} real images and {len(samples)} samples do not fill {bins} bins"
        )
    of_real, of_samples = _along_principal_axes(real, samples, axes)
    parts = [
        _axis_divergences(one, other, bins)
        for one, other in zip(of_real.T, of_samples.T, strict=True)
    ]
    return DivergenceMetrics(
        kl_real_samples=float(np.mean([part.kl_real_samples for part in parts])),
        kl_samples_real=float(np.mean([part.kl_samples_real for part in parts])),
        js=float(np.mean([part.js for part in parts])),
        wasserstein=float(np.mean([part.wasserstein for part in parts])),
    )


def _along_principal_axes(real: Points, samples: Points, axes: int) -> tuple[Floats, Floats]:
    """Projections in standard deviations of the real images, (N, A) and (M, A)."""
    centre = real.mean(axis=0, dtype=np.float64)
    centred = real - centre
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    kept = min(axes, int((singular > 1e-9 * max(1.0, singular[0])).sum()))
    if kept == 0:
        raise ValueError("all real images are equal: they spread along no axis")
    scaled = directions[:kept].T / (singular[:kept] / np.sqrt(len(real)))
    return centred @ scaled, (samples - centre) @ scaled


def _axis_divergences(real: Floats, samples: Floats, bins: int) -> DivergenceMetrics:
    edges = np.quantile(real, np.linspace(0, 1, bins + 1)[1:-1])
    counted = [
        np.bincount(np.searchsorted(edges, side, side="right"), minlength=bins)
        for side in (real, samples)
    ]
    binned = histogram_divergences(counted[0], counted[1])
    return DivergenceMetrics(
        kl_real_samples=binned.kl_real_samples,
        kl_samples_real=binned.kl_samples_real,
        js=binned.js,
        wasserstein=wasserstein_distance(real, samples),
    )


def wasserstein_distance(one: Floats, other: Floats) -> float:
    """Wasserstein-1 distance of two sets of numbers, (N,) and (M,).

    The area between their cumulative distributions.
    """
    places = np.sort(np.concatenate([one, other]))
    below_one = np.searchsorted(np.sort(one), places[:-1], side="right") / len(one)
    below_other = np.searchsorted(np.sort(other), places[:-1], side="right") / len(other)
    return float((np.abs(below_one - below_other) * np.diff(places)).sum())
