"""Kernel inception distance (KID) with a bootstrap interval over patients.

KID compares embeddings (`ml.gan.evaluation.features`) by a cubic kernel (Binkowski et al.,
"Demystifying MMD GANs", 2018). Unlike FID (`ml.gan.evaluation.fid`) it is unbiased, so it is the
main metric where images are few.
"""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from ml.gan.evaluation.distances import Floats, Points
from ml.gan.evaluation.patient_groups import (
    LEAST_IMAGES,
    Groups,
    patient_groups,
    require_enough_images,
)
from ml.gan.evaluation.results import KidMetric

# As in the paper; half of the smaller set where that is less.
KID_SUBSET = 1000
KID_SUBSETS = 100
BOOTSTRAP_DRAWS = 1000
NORMAL_95 = 1.96


class _Given(nn.Module):
    """Takes the place of torchmetrics' feature network: the images are embedded already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings


def kid(
    real: Points,
    samples: Points,
    *,
    patients: Groups | None = None,
    subset_size: int | None = None,
    subsets: int = KID_SUBSETS,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> KidMetric:
    """The KID with its spread over random subsets and its 95 % bootstrap interval.

    The interval resamples patients on the real side and images on the synthetic one. Pairs of an
    image, or a patient, with its own second copy are left out of every draw: the kernel of an image
    with itself is large and would shift all draws above the metric. The interval is wider than
    needed where the sets hardly differ.

    Args:
        real: (N, F) embeddings.
        samples: (M, F) embeddings; M may differ from N, since KID is unbiased.
        patients: (N,) keys; each image its own where left out.
        subset_size: images of each side in a subset: by default half of the smaller side, 1000 at
            most.
        subsets: how many subsets are drawn; the global random state stays as it was.
        draws: bootstrap draws; 0 leaves the interval out, as NaN.
        seed: of the draws.

    Raises:
        DataError: too few images, or fewer than a subset has.
    """
    require_enough_images(real, samples, least=subset_size or LEAST_IMAGES)
    size = subset_size or min(KID_SUBSET, min(len(real), len(samples)) // 2)
    value, spread = _kid_of_subsets(real, samples, size, subsets, seed)
    low, high = float("nan"), float("nan")
    if draws:
        drawn = _bootstrap_kid(real, samples, patient_groups(patients, real), draws, seed)
        low, high = map(float, np.percentile(drawn, (2.5, 97.5)))
    return KidMetric(
        value=value,
        spread=spread,
        low=low,
        high=high,
        real=len(real),
        samples=len(samples),
        subset_size=size,
    )


def _kid_of_subsets(
    real: Points, samples: Points, size: int, subsets: int, seed: int
) -> tuple[float, float]:
    """Mean and standard deviation over random subsets, as torchmetrics computes them."""
    with warnings.catch_warnings():
        # It warns that it keeps the embeddings, which are in memory anyway.
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all")
        metric = KernelInceptionDistance(
            _Given(real.shape[1]), subsets=subsets, subset_size=size, sync_on_compute=False
        )
    metric.update(torch.from_numpy(real.astype(np.float64)), real=True)
    metric.update(torch.from_numpy(samples.astype(np.float64)), real=False)
    # It draws from the global generator of the CPU, which a training loop may be using.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        mean, spread = metric.compute()
    return float(mean), float(spread)


def _bootstrap_kid(
    real: Points, samples: Points, groups: NDArray[np.generic], draws: int, seed: int
) -> Floats:
    """(draws,) unbiased KIDs of resampled patients against resampled images."""
    random = np.random.default_rng(seed)
    within_real = _KernelSums(real, groups)
    within_samples = _KernelSums(samples, np.arange(len(samples)))
    across = within_real.membership @ _kernel(real, samples)  # (P, M)
    of_real = within_real.draw_counts(random, draws)  # (draws, P)
    of_samples = within_samples.draw_counts(random, draws)  # (draws, M)
    pairs = (of_real @ within_real.images) * len(samples)
    crossed = ((of_real @ across) * of_samples).sum(axis=1) / pairs
    kids: Floats = within_real.mean(of_real) + within_samples.mean(of_samples) - 2 * crossed
    return kids


def _kernel(one: Points, other: Points) -> Floats:
    """KID's polynomial kernel, (N, F), (M, F) -> (N, M)."""
    product: Floats = one.astype(np.float64) @ other.astype(np.float64).T
    kernel: Floats = (product / one.shape[1] + 1) ** 3
    return kernel


class _KernelSums:
    """Sums of the kernel within one set, by group, from which any resampling of groups follows."""

    def __init__(self, points: Points, groups: NDArray[np.generic]):
        _, group = np.unique(groups, return_inverse=True)
        self.images = np.bincount(group).astype(np.float64)  # (P,)
        self.membership = np.zeros((len(self.images), len(points)))  # (P, N)
        self.membership[group, np.arange(len(points))] = 1
        kernel = _kernel(points, points)
        self._between = self.membership @ kernel @ self.membership.T  # (P, P)
        # Within one copy of a group every pair of different images counts.
        self._inside = np.diag(self._between) - self.membership @ np.diag(kernel)
        np.fill_diagonal(self._between, 0.0)

    def draw_counts(self, random: np.random.Generator, draws: int) -> Floats:
        """(draws, P) how often each group is drawn."""
        groups = len(self.images)
        return random.multinomial(groups, np.full(groups, 1 / groups), size=draws).astype(float)

    def mean(self, counts: Floats) -> Floats:
        """(draws, P) -> (draws,) mean kernel of two different images of a draw."""
        total = ((counts @ self._between) * counts).sum(axis=1) + counts @ self._inside
        images = counts @ self.images
        same_group = (counts**2) @ self.images**2 - counts @ (self.images * (self.images - 1))
        means: Floats = total / (images**2 - same_group)
        return means
