"""The distance between two halves of the real images: the best a generator can reach."""

from collections.abc import Sequence

import numpy as np

from ml.errors import DataError
from ml.gan.evaluation.distances import Points
from ml.gan.evaluation.fid import frechet_distance
from ml.gan.evaluation.kid import kid
from ml.gan.evaluation.patient_groups import LEAST_IMAGES, Groups, draw_by_group
from ml.gan.evaluation.results import FloorMetrics

FLOOR_REPEATS = 10


def real_floor(
    real: Points,
    patients: Groups,
    n: int,
    *,
    repeats: int = FLOOR_REPEATS,
    seed: int = 0,
) -> FloorMetrics:
    """FID and KID between two sets of real images, of n images each, that share no patient.

    Args:
        real: (N, F) embeddings of all real images that may be drawn, 2 n or more; those that
            trained a generator are as real as others.
        patients: (N,) keys.
        n: images of each side: as many as in the comparison that the floor is for.
        repeats: how often two sets are drawn.
        seed: of the draws.

    Raises:
        DataError: there are not enough images of different patients.
    """
    random = np.random.default_rng(seed)
    fids, kids = [], []
    for _ in range(repeats):
        one, rest = draw_by_group(patients, n, random)
        if len(one) < n or len(rest) < n or n < LEAST_IMAGES:
            raise DataError(
                f"{len(real)} real images of {len(set(patients.tolist()))} patients do not make "
                f"two sets of {max(n, LEAST_IMAGES)} images that share no patient. Compare fewer "
                "samples, or add images."
            )
        other = rest[:n]
        fids.append(frechet_distance(real[one], real[other]))
        kids.append(kid(real[one], real[other], draws=0, seed=seed).value)
    (fid_mean, fid_spread), (kid_mean, kid_spread) = map(_mean_and_spread, (fids, kids))
    return FloorMetrics(
        fid=fid_mean,
        fid_spread=fid_spread,
        kid=kid_mean,
        kid_spread=kid_spread,
        n=n,
        repeats=repeats,
    )


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
