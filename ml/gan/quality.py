"""How far a set of synthetic films is from a set of real ones: KID and FID, with what they mean.

Both compare embeddings (`ml.gan.features`). KID (Binkowski et al., "Demystifying MMD GANs", 2018)
is unbiased, so it comes first where films are few. FID (Heusel et al., "GANs Trained by a Two
Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017) is biased upwards, the more
the fewer films: it is compared at equal numbers of films only, and beside the floor that real
films reach against other real films of that number.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from ml.errors import DataError
from ml.gan.distances import Floats, Points

Groups = NDArray[np.str_]  # (N,) patient keys
Ints = NDArray[np.int64]

# As its authors do; half of the smaller set where that is less.
KID_SUBSET = 1000
KID_SUBSETS = 100
BOOTSTRAP_DRAWS = 1000
HALVINGS = 20
FLOOR_REPEATS = 10
LEAST_FILMS = 4
_NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Kid:
    """A kernel inception distance; may be slightly negative where sets are alike.

    Attributes:
        value: mean over random subsets.
        spread: standard deviation over them.
        low: lower end of the 95 % bootstrap interval.
        high: upper end.
        real: number of real films.
        samples: number of synthetic films.
        subset_size: films of each side in a subset.
    """

    value: float
    spread: float
    low: float
    high: float
    real: int
    samples: int
    subset_size: int


@dataclass(frozen=True, slots=True)
class Fid:
    """A Frechet distance of `n` films to `n` others, with its standard error."""

    value: float
    error: float
    n: int

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval; a distance is never negative."""
        return max(0.0, self.value - _NORMAL_95 * self.error)

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + _NORMAL_95 * self.error


@dataclass(frozen=True, slots=True)
class Floor:
    """What real films reach against other real films: mean and spread over random halves."""

    fid: float
    fid_spread: float
    kid: float
    kid_spread: float
    n: int  # films of each half
    repeats: int

    def ratio(self, fid: Fid) -> float:
        """Floor over FID: 1 where samples are as near as other real films, towards 0 if farther.

        Raises:
            ValueError: the two are of different numbers of films, which compares nothing.
        """
        if fid.n != self.n:
            raise ValueError(f"an FID of {fid.n} films has no floor of {self.n} films")
        return self.fid / fid.value


class _Given(nn.Module):
    """Stands where torchmetrics expects a feature network: the films are embedded already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings


def frechet_distance(real: Points, samples: Points) -> float:
    """The Frechet distance of two sets of embeddings, in float64.

    The trace of the root of the product of two covariances is the sum of the singular values of
    what the centred sets have in common, a matrix of films by films. With hundreds of films of a
    thousand features that takes a thirtieth of the time of a root of features by features, as
    libraries compute it, and equals it (`tests/test_gan_quality.py` compares with torchmetrics).

    Raises:
        DataError: too few films.
    """
    _require(real, samples)
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
    """The FID at an equal number of films, with its standard error.

    A bootstrap would be wrong here: a film drawn twice takes rank from the covariance, so every
    draw lies above the figure. Instead both sets are halved at random, without repetition, many
    times: the standard deviation over halves estimates the standard error of the whole (the
    delete-half jackknife; Shao and Wu, "A General Theory for Jackknife Variance Estimation",
    1989). Only the spread is taken from the halves, since their own level is that of fewer films.
    The error is right where the sets differ and too large, up to twice, where they hardly do.

    Args:
        real: (N, F) embeddings.
        samples: (M, F) embeddings.
        patients: (N,) keys; halves then share no patient. Each film its own where left out.
        n: films of each side, drawn at random from the larger sets; the smaller side by default.
        halvings: how often the sets are halved; 0 leaves the error out, as NaN.
        seed: of the draws.

    Raises:
        DataError: a side has fewer films than n, or than can be halved.
    """
    n = min(len(real), len(samples)) if n is None else n
    _require(real, samples, least=max(n, 2 * LEAST_FILMS if halvings else LEAST_FILMS))
    groups = _groups(patients, real)
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(real))[:n])
    real, groups = real[chosen], groups[chosen]
    samples = samples[np.sort(random.permutation(len(samples))[:n])]
    value = frechet_distance(real, samples)
    halves = [
        frechet_distance(
            real[_draw_by_group(groups, n // 2, random)[0]],
            samples[random.permutation(n)[: n // 2]],
        )
        for _ in range(halvings)
    ]
    error = float(np.std(halves, ddof=1)) if halvings > 1 else float("nan")
    return Fid(value, error, n)


def kid(
    real: Points,
    samples: Points,
    *,
    patients: Groups | None = None,
    subset_size: int | None = None,
    subsets: int = KID_SUBSETS,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> Kid:
    """The KID with its spread over random subsets and its 95 % bootstrap interval.

    The interval resamples patients on the real side and films on the synthetic one. Pairs of a
    film, or a patient, with its own second copy are left out of every draw: the kernel of a film
    with itself is large, and would push all draws above the figure. The interval is wider than
    needed where the sets hardly differ.

    Args:
        real: (N, F) embeddings.
        samples: (M, F) embeddings; M may differ from N, since KID is unbiased.
        patients: (N,) keys; each film its own where left out.
        subset_size: films of each side in a subset: by default half of the smaller side, 1000 at
            most.
        subsets: how many subsets are drawn; the global random state stays as it was.
        draws: bootstrap draws; 0 leaves the interval out, as NaN.
        seed: of the draws.

    Raises:
        DataError: too few films, or fewer than a subset has.
    """
    _require(real, samples, least=subset_size or LEAST_FILMS)
    size = subset_size or min(KID_SUBSET, min(len(real), len(samples)) // 2)
    value, spread = _kid_of_subsets(real, samples, size, subsets, seed)
    low, high = float("nan"), float("nan")
    if draws:
        drawn = _bootstrap_kid(real, samples, _groups(patients, real), draws, seed)
        low, high = map(float, np.percentile(drawn, (2.5, 97.5)))
    return Kid(value, spread, low, high, len(real), len(samples), size)


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
    """(draws,) unbiased KIDs of resampled patients against resampled films."""
    random = np.random.default_rng(seed)
    within_real = _KernelSums(real, groups)
    within_samples = _KernelSums(samples, np.arange(len(samples)))
    across = within_real.membership @ _kernel(real, samples)  # (P, M)
    of_real = within_real.draw_counts(random, draws)  # (draws, P)
    of_samples = within_samples.draw_counts(random, draws)  # (draws, M)
    pairs = (of_real @ within_real.films) * len(samples)
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
        self.films = np.bincount(group).astype(np.float64)  # (P,)
        self.membership = np.zeros((len(self.films), len(points)))  # (P, N)
        self.membership[group, np.arange(len(points))] = 1
        kernel = _kernel(points, points)
        self._between = self.membership @ kernel @ self.membership.T  # (P, P)
        # Within one copy of a group every pair of different films counts.
        self._inside = np.diag(self._between) - self.membership @ np.diag(kernel)
        np.fill_diagonal(self._between, 0.0)

    def draw_counts(self, random: np.random.Generator, draws: int) -> Floats:
        """(draws, P) how often each group is drawn."""
        groups = len(self.films)
        return random.multinomial(groups, np.full(groups, 1 / groups), size=draws).astype(float)

    def mean(self, counts: Floats) -> Floats:
        """(draws, P) -> (draws,) mean kernel of two different films of a draw."""
        total = ((counts @ self._between) * counts).sum(axis=1) + counts @ self._inside
        films = counts @ self.films
        same_group = (counts**2) @ self.films**2 - counts @ (self.films * (self.films - 1))
        means: Floats = total / (films**2 - same_group)
        return means


def real_floor(
    real: Points,
    patients: Groups,
    n: int,
    *,
    repeats: int = FLOOR_REPEATS,
    seed: int = 0,
) -> Floor:
    """FID and KID between two sets of real films, of n films each, that share no patient.

    Args:
        real: (N, F) embeddings of all real films that may be drawn, 2 n or more; those that
            trained a generator are as real as others.
        patients: (N,) keys.
        n: films of each side: as many as in the comparison that the floor is for.
        repeats: how often two sets are drawn.
        seed: of the draws.

    Raises:
        DataError: there are not enough films of different patients.
    """
    random = np.random.default_rng(seed)
    fids, kids = [], []
    for _ in range(repeats):
        one, rest = _draw_by_group(patients, n, random)
        if len(one) < n or len(rest) < n or n < LEAST_FILMS:
            raise DataError(
                f"{len(real)} real films of {len(set(patients.tolist()))} patients do not make "
                f"two sets of {max(n, LEAST_FILMS)} films that share no patient: compare fewer "
                "samples, or give more films"
            )
        other = rest[:n]
        fids.append(frechet_distance(real[one], real[other]))
        kids.append(kid(real[one], real[other], draws=0, seed=seed).value)
    return Floor(*_mean_and_spread(fids), *_mean_and_spread(kids), n, repeats)


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _draw_by_group(
    groups: NDArray[np.generic], n: int, random: np.random.Generator
) -> tuple[Ints, Ints]:
    """At most n films of groups in random order, and all films of the groups not touched.

    The last group gives as many films as are wanted; its other films belong to neither side.
    """
    _, group = np.unique(groups, return_inverse=True)
    order = random.permutation(group.max() + 1)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    films = np.argsort(rank[group], kind="stable")
    ends_inside = n > 0 and n < len(films) and group[films[n - 1]] == group[films[n]]
    rest = films[n:]
    if ends_inside:
        rest = rest[group[rest] != group[films[n - 1]]]
    return films[:n], rest


def _groups(patients: Groups | None, real: Points) -> NDArray[np.generic]:
    if patients is None:
        return np.arange(len(real))
    if len(patients) != len(real):
        raise ValueError(f"{len(patients)} patient keys for {len(real)} films")
    return patients


def _require(real: Points, samples: Points, least: int = LEAST_FILMS) -> None:
    fewest = min(len(real), len(samples))
    if fewest < least:
        raise DataError(
            f"expected {least} films or more on each side, got {len(real)} real and "
            f"{len(samples)} synthetic ones: give more films or compare fewer"
        )
