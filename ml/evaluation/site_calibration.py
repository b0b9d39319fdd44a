"""The decision rule, fitted on sites that the classifier learned nothing from.

Fitted on patients of the training sites, a rule promises what holds there. At a hospital that is
new the same confidence is right less often. Here every threshold must hold at each left-out site by
itself, so one hospital where the classifier fails is enough to make it abstain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.classifier.calibration import NEVER, SiteRule
from ml.errors import CheckpointError, DataError
from ml.evaluation.leave_site_out import HEALTHY, TARGET
from ml.evaluation.metrics import Floats
from ml.evaluation.site_statistics import SitePredictions, join_predictions
from ml.evaluation.site_trainings import FOLDS, PREDICTIONS, StoredPredictions
from ml.json_model import InvalidJson
from ml.options.classifier import ClassifierOptions

# Bounds at every left-out site.
MOST_WRONG = 0.05  # of the definite predictions
MOST_CALLED_TARGET = 0.02  # of the healthy images, called the target disease
MOST_OTHER_HEALTHY = 0.05  # of images of other findings, called healthy
# Combinations of thresholds that are tried.
COMBINATIONS = 30_000


def read_left_out(folder: Path, options: ClassifierOptions) -> SitePredictions:
    """The predictions for each site by a classifier that was trained without it.

    Where a site was left out alone, only that classifier counts. One without further sites saw
    less, and does worse: its predictions stand in where there is no other.

    Args:
        folder: the --out of `xray evaluate sites`.
        options: of the classifier that the rule is for. Thresholds of another recipe say nothing
            about it.

    Raises:
        DataError: fewer than two sites were measured.
        CheckpointError: stored predictions are damaged, or of other options.
    """
    stored = []
    for path in sorted((folder / FOLDS).glob(f"*/{PREDICTIONS}")):
        try:
            one = StoredPredictions.from_json(path.read_bytes())
        except InvalidJson as problem:
            raise CheckpointError(
                f"{path} is damaged: {problem}. Remove it and run xray evaluate sites again"
            ) from None
        if one.options.leave_out:
            stored.append(one)
    fewest = _fewest_left_out_with(stored)
    if len(fewest) < 2:
        raise DataError(
            f"{folder} has predictions for {len(fewest)} left-out site(s). Run xray evaluate sites "
            "with this folder as --out first"
        )
    own = replace(options, leave_out="", seed=0)
    if any(replace(one.options, leave_out="", seed=0) != own for one in stored):
        raise CheckpointError(
            f"The trainings in {folder} have other options than the classifier. Run xray evaluate "
            "sites with the options of its training"
        )
    parts = []
    for one in stored:
        found, count = one.predictions(), len(_left_out(one))
        own_sites = [site for site in _left_out(one) if fewest[site] == count]
        parts.append(found.where(np.isin(found.sites, own_sites)))
    return join_predictions(parts)


def _left_out(stored: StoredPredictions) -> list[str]:
    return stored.options.leave_out.split(",")


def _fewest_left_out_with(stored: Sequence[StoredPredictions]) -> dict[str, int]:
    """Site -> how many sites are left out, at the fewest, where it is one of them."""
    counts = [(site, len(_left_out(one))) for one in stored for site in _left_out(one)]
    return {site: min(count for name, count in counts if name == site) for site, _ in counts}


def fit_site_rule(
    found: SitePredictions, *, target: str = TARGET, healthy: str = HEALTHY
) -> SiteRule:
    """The thresholds that answer most while every bound holds at every site.

    All combinations of a grid of thresholds are tried. What counts is the mean over the sites of
    the share of images answered. Where no combination answers anything, no class is ever predicted.

    Args:
        found: predictions of left-out images; those of other findings have unknown labels.
        target: the disease that healthy people must not be called; may be no class.
        healthy: the class without a finding; may be no class.
    """
    grids = _grids(found)
    counts = [
        _SiteCounts.of(found.where(found.sites == site), grids, target, healthy)
        for site in sorted(set(found.sites.tolist()))
    ]
    best, best_answered = tuple(len(grid) - 1 for grid in grids), 0.0
    for places in product(*(range(len(grid)) for grid in grids)):
        answered = float(np.mean([site.answered(places) for site in counts]))
        if answered > best_answered and all(site.holds(places) for site in counts):
            best, best_answered = places, answered
    return SiteRule(
        by_label={
            label: float(grid[k]) for label, grid, k in zip(found.labels, grids, best, strict=True)
        },
        answered={site.name: site.answered(best) for site in counts},
    )


def _grids(found: SitePredictions) -> list[Floats]:
    """Thresholds to try for each class: quantiles of its predictions' confidence, and never."""
    size = max(4, int(COMBINATIONS ** (1 / len(found.labels))))
    confidence = found.probabilities.max(axis=1)
    grids = []
    for label in found.labels:
        own = confidence[found.predicted == label]
        # More of them among the confident, where a rule is decided.
        levels = 1 - np.linspace(1, 0, size - 1) ** 2
        values = np.quantile(own, levels) if len(own) else np.empty(0)
        grids.append(np.append(np.unique(values), NEVER))
    return grids


@dataclass(frozen=True, slots=True)
class _SiteCounts:
    """Definite predictions of one site, by class and threshold: lists of (grid,) counts."""

    name: str
    images: int
    given: list[NDArray[np.int64]]
    wrong: list[NDArray[np.int64]]
    called_target: tuple[int, NDArray[np.int64]]  # the class's number, and of healthy images
    healthy_images: int
    other_healthy: tuple[int, NDArray[np.int64]]
    other_images: int

    @classmethod
    def of(
        cls, found: SitePredictions, grids: Sequence[Floats], target: str, healthy: str
    ) -> "_SiteCounts":
        confidence, predicted = found.probabilities.max(axis=1), found.predicted
        known = found.is_known

        def count(label: str, grid: Floats, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
            own = confidence[chosen & (predicted == label)]
            return np.array([(own >= level).sum() for level in grid], dtype=np.int64)

        def of_class(label: str, chosen: NDArray[np.bool_]) -> tuple[int, NDArray[np.int64]]:
            if label not in found.labels:
                return 0, np.zeros(len(grids[0]), dtype=np.int64)
            place = found.labels.index(label)
            return place, count(label, grids[place], chosen)

        pairs = list(zip(found.labels, grids, strict=True))
        return cls(
            name=str(found.sites[0]),
            images=int(known.sum()),
            given=[count(label, grid, known) for label, grid in pairs],
            wrong=[count(label, grid, known & (found.truth != predicted)) for label, grid in pairs],
            called_target=of_class(target, found.truth == healthy),
            healthy_images=int((found.truth == healthy).sum()),
            other_healthy=of_class(healthy, ~known),
            other_images=int((~known).sum()),
        )

    def answered(self, places: Sequence[int]) -> float:
        return sum(int(one[k]) for one, k in zip(self.given, places, strict=True)) / self.images

    def holds(self, places: Sequence[int]) -> bool:
        given = sum(int(one[k]) for one, k in zip(self.given, places, strict=True))
        wrong = sum(int(one[k]) for one, k in zip(self.wrong, places, strict=True))
        called = int(self.called_target[1][places[self.called_target[0]]])
        other = int(self.other_healthy[1][places[self.other_healthy[0]]])
        return (
            wrong <= MOST_WRONG * given
            and called <= MOST_CALLED_TARGET * self.healthy_images
            and other <= MOST_OTHER_HEALTHY * self.other_images
        )
