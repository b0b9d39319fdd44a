"""How many labelled images of a hospital repair thresholds that were fitted without it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ml.errors import CheckpointError, DataError
from ml.evaluation.leave_site_out import HEALTHY, TARGET
from ml.evaluation.local_rule import (
    fit_local_rule,
    fit_plain_rule,
    is_definite,
    one_per_patient,
)
from ml.evaluation.metrics import Floats, Interval
from ml.evaluation.site_statistics import Flags, SitePredictions
from ml.evaluation.site_trainings import FOLDS, PREDICTIONS, StoredPredictions
from ml.json_model import InvalidJson, JsonModel

COUNTS = (0, 20, 50, 100, 200)
DRAWS = 200
# Images that are left to measure on.
LEAST_MEASURED = 50
PLAIN, PROVED = "plain", "proved"


class CurvePoint(JsonModel):
    """What thresholds from so many labelled images give on the other images of the hospital.

    Attributes:
        labelled: images, each of another patient; 0: the thresholds of the training sites.
        rule: `proved` or `plain`.
        answered: share with a definite prediction.
        right: share of these that are right; draws without any are left out.
        healthy_called_target: share of healthy images called the target disease.
        silent: share of the draws in which nothing is answered.
    """

    labelled: int
    rule: str
    answered: Interval
    right: Interval
    healthy_called_target: Interval
    silent: float


class HospitalCurve(JsonModel):
    """The curve of one hospital: a left-out site, or two left out together."""

    hospital: str
    images: dict[str, int]
    points: list[CurvePoint]


class LocalCurves(JsonModel):
    """The curves of all hospitals that were left out; intervals are over the draws."""

    draws: int
    hospitals: list[HospitalCurve]


def read_hospitals(folders: Sequence[Path]) -> dict[str, SitePredictions]:
    """The predictions for each left-out site or pair, by its name.

    Args:
        folders: each the --out of `xray evaluate sites`, finished or not.

    Raises:
        DataError: no prediction of a left-out site is there.
        CheckpointError: a file is damaged.
    """
    found = dict[str, list[StoredPredictions]]()
    for path in sorted(path for each in folders for path in each.glob(f"{FOLDS}/*/{PREDICTIONS}")):
        try:
            one = StoredPredictions.from_json(path.read_bytes())
        except InvalidJson as problem:
            raise CheckpointError(
                f"{path} is damaged: {problem}. Remove it and run xray evaluate sites again."
            ) from None
        if one.options.leave_out:
            found.setdefault(one.options.leave_out.replace(",", " + "), []).append(one)
    if not found:
        raise DataError(
            f"{', '.join(map(str, folders))} has no predictions for a left-out site. Run xray "
            "evaluate sites with this folder as --out first."
        )
    # Of several seeds the first one: images of two classifiers are not one hospital's.
    return {name: all_of_it[0].predictions() for name, all_of_it in sorted(found.items())}


def measure_curves(
    hospitals: dict[str, SitePredictions],
    *,
    counts: Sequence[int] = COUNTS,
    draws: int = DRAWS,
    target: str = TARGET,
    healthy: str = HEALTHY,
) -> LocalCurves:
    """Fit thresholds on random labelled images of each hospital, and measure on its others.

    Args:
        hospitals: predictions for images of each.
        counts: labelled images; a hospital that has too few others left is not measured there.
        draws: of labelled images.
        target: the disease that healthy people must not be called.
        healthy: the class without a finding.
    """
    curves = []
    for name, found in hospitals.items():
        known = one_per_patient(found.where(found.is_known))
        points = [
            _point(known, count, rule, draws, target, healthy)
            for count in counts
            if len(known.truth) - count >= LEAST_MEASURED
            for rule in ((PROVED, PLAIN) if count else (PROVED,))
        ]
        labels, images = np.unique(known.truth, return_counts=True)
        curves.append(
            HospitalCurve(
                hospital=name,
                images=dict(zip(labels.tolist(), images.tolist(), strict=True)),
                points=points,
            )
        )
    return LocalCurves(draws=draws, hospitals=curves)


def _point(
    found: SitePredictions, count: int, rule: str, draws: int, target: str, healthy: str
) -> CurvePoint:
    if count == 0:
        rows = [_measured(found, found.definite, target, healthy)]
        # One measurement, whose interval is over images.
        random = np.random.default_rng(0)
        for _ in range(draws):
            chosen = random.integers(len(found.truth), size=len(found.truth))
            again = found.where(chosen)
            rows.append(_measured(again, again.definite, target, healthy))
        return _summary(0, rule, np.array(rows))
    fit = _FITS[rule]
    random = np.random.default_rng(count)
    rows = []
    for _ in range(draws):
        labelled = np.zeros(len(found.truth), np.bool_)
        labelled[random.choice(len(found.truth), size=count, replace=False)] = True
        others = found.where(~labelled)
        by_label = fit(found.where(labelled), target, healthy)
        rows.append(_measured(others, is_definite(others, by_label), target, healthy))
    return _summary(count, rule, np.array(rows))


def _proved(found: SitePredictions, target: str, healthy: str) -> dict[str, float]:
    return {
        one.label: one.threshold for one in fit_local_rule(found, target=target, healthy=healthy)
    }


def _plain(found: SitePredictions, target: str, healthy: str) -> dict[str, float]:
    return fit_plain_rule(found, target=target, healthy=healthy)


_FITS: dict[str, Callable[[SitePredictions, str, str], dict[str, float]]] = {
    PROVED: _proved,
    PLAIN: _plain,
}


def _measured(
    found: SitePredictions, definite: Flags, target: str, healthy: str
) -> tuple[float, float, float]:
    right = found.truth == found.predicted
    is_healthy = found.truth == healthy
    called = definite & (found.predicted == target)
    return (
        float(definite.mean()),
        float(right[definite].mean()) if definite.any() else float("nan"),
        float(called[is_healthy].mean()) if is_healthy.any() else float("nan"),
    )


def _summary(count: int, rule: str, rows: Floats) -> CurvePoint:
    answered, right, called = (_over_draws(column) for column in rows.T)
    return CurvePoint(
        labelled=count,
        rule=rule,
        answered=answered,
        right=right,
        healthy_called_target=called,
        silent=float((rows[:, 0] == 0).mean()),
    )


def _over_draws(values: Floats) -> Interval:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    low, high = np.percentile(defined, (2.5, 97.5))
    return Interval(float(defined.mean()), float(low), float(high), len(defined))
