"""Find the site that took an image from the embedding of a classifier."""

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.metrics import Floats, Ints
from ml.evaluation.site_statistics import Measure

# Strength of the ridge, in variances of a standardised feature.
RIDGE = 1.0
_SEED = 0


def probe_sites(
    embeddings: NDArray[np.floating],
    sites: NDArray[np.str_],
    patients: NDArray[np.str_],
    least_patients: int,
) -> tuple[str, Measure] | None:
    """Learn the site from half of the patients by a linear map, and name it for the others.

    Args:
        embeddings: (N, F).
        sites: (N,).
        patients: (N,) keys.
        least_patients: sites with fewer in either half are left out.

    Returns:
        The subject, with the number of sites, and the balanced accuracy on the other half; None
        where fewer than two sites have enough patients.
    """
    teaches = _half_of(patients)
    names = [
        site
        for site in sorted(set(sites.tolist()))
        if all(
            len(set(patients[(sites == site) & half].tolist())) >= least_patients
            for half in (teaches, ~teaches)
        )
    ]
    if len(names) < 2:
        return None
    known = np.isin(sites, names)
    numbers = np.array([names.index(site) if site in names else -1 for site in sites])
    predicted = _fit_and_name(embeddings.astype(np.float64), numbers, known & teaches)
    right = predicted == numbers

    def balanced(chosen: Ints) -> float:
        shares = [right[chosen[numbers[chosen] == k]] for k in range(len(names))]
        return float(np.mean([own.mean() if len(own) else np.nan for own in shares]))

    subject = f"{len(names)} sites, chance {1 / len(names):.2f}"
    return subject, (known & ~teaches, balanced)


def _half_of(patients: NDArray[np.str_]) -> NDArray[np.bool_]:
    """(N,) whether an image's patient is in a random half of the patients."""
    names, place = np.unique(patients, return_inverse=True)
    chosen: NDArray[np.bool_] = np.random.default_rng(_SEED).permutation(len(names)) % 2 == 0
    return chosen[place]


def _fit_and_name(embeddings: Floats, numbers: Ints, teaches: NDArray[np.bool_]) -> Ints:
    """Ridge regression of the sites' indicators, each site with the same weight."""
    own = embeddings[teaches]
    scaled = (embeddings - own.mean(axis=0)) / own.std(axis=0).clip(1e-6)
    inputs = np.hstack([scaled, np.ones((len(scaled), 1))])
    wanted = np.eye(numbers.max() + 1)[numbers[teaches]]
    weight = 1 / np.bincount(numbers[teaches])[numbers[teaches]]
    weighted = inputs[teaches] * weight[:, None]
    gram = weighted.T @ inputs[teaches]
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    named: Ints = (inputs @ np.linalg.solve(gram, weighted.T @ wanted)).argmax(axis=1)
    return named
