"""The leave-site-out measurement: how a recipe does at hospitals that it learned nothing from.

It is independent of the recipe: whatever gives predictions for a fold can be measured. A fold
leaves out one site, or a site with healthy people and one with the target disease together, or
none: then it is measured on held-out patients, which is the condition that the recipe fits at all.
Leave-site-out metrics alone reward underfitting.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ml.data.left_out import without_left_out
from ml.data.manifest import ImageRecord, in_split, labels_of, real_images
from ml.data.splits import Split
from ml.errors import DataError
from ml.evaluation.metrics import BOOTSTRAP_DRAWS, Interval, Ints, auroc
from ml.evaluation.site_statistics import (
    Measure,
    SitePredictions,
    auroc_between,
    calibration_of,
    class_pairs,
    nested_threshold,
    share_of,
    with_intervals,
)
from ml.json_model import JsonModel

TARGET, HEALTHY = "covid", "normal"
# Fewer patients say nothing about a site; a pair of sites needs more on either side.
LEAST_PATIENTS, LEAST_PAIR_PATIENTS = 10, 30


@dataclass(frozen=True, slots=True)
class Fold:
    """The sites that one training leaves out; none for the split by patient."""

    left_out: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the fold's folder."""
        return "+".join(self.left_out) or "held-out-patients"


PATIENT_SPLIT = Fold(())


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured.

    Attributes:
        labels: the classes of the data set.
        sites: the sites to leave out one by one.
        pairs: a site with healthy people and one with the target disease each.
        skipped: folds without which some class could not be learned.
    """

    labels: tuple[str, ...]
    target: str
    healthy: str
    sites: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    skipped: tuple[Fold, ...]

    @property
    def folds(self) -> list[Fold]:
        """All trainings: the split by patient, each site, each pair."""
        return [PATIENT_SPLIT, *(Fold((site,)) for site in self.sites), *map(Fold, self.pairs)]


def plan_folds(
    records: Sequence[ImageRecord],
    *,
    target: str = TARGET,
    healthy: str = HEALTHY,
    least_pair_patients: int = LEAST_PAIR_PATIENTS,
) -> Plan:
    """Choose the sites and pairs to leave out.

    Raises:
        DataError: the data set lacks one of the two classes, or has fewer than two sites.
    """
    real = real_images(records)
    labels, sites = labels_of(real), sorted({image.site for image in real})
    if not {target, healthy} <= set(labels) or len(sites) < 2:
        raise DataError(
            f"The data set has the classes {', '.join(labels)} and the sites {', '.join(sites)}. "
            f"Leaving sites out needs {target}, {healthy} and at least two sites."
        )
    with_healthy, with_target = (
        [site for site in sites if _patients(real, site, label) >= least_pair_patients]
        for label in (healthy, target)
    )
    pairs = [pair for pair in product(with_healthy, with_target) if pair[0] != pair[1]]
    wanted = [Fold((site,)) for site in sites] + [Fold(pair) for pair in pairs]
    skipped = [fold for fold in wanted if not _can_train(real, fold, labels)]
    return Plan(
        labels=labels,
        target=target,
        healthy=healthy,
        sites=tuple(site for site in sites if Fold((site,)) not in skipped),
        pairs=tuple(pair for pair in pairs if Fold(pair) not in skipped),
        skipped=tuple(skipped),
    )


def _patients(records: Iterable[ImageRecord], site: str, label: str) -> int:
    return len({image.patient for image in records if (image.site, image.label) == (site, label)})


def _can_train(records: Sequence[ImageRecord], fold: Fold, labels: Sequence[str]) -> bool:
    rest = without_left_out(records, ",".join(fold.left_out))
    parts = (in_split(rest, part) for part in (Split.TRAIN, Split.VALIDATION))
    return all(labels_of(part) == tuple(labels) for part in parts)


class SiteMetrics(JsonModel):
    """One site, by a classifier that learned nothing from it; None where it has too few patients.

    Attributes:
        images: label -> count.
        specificity: share of healthy images whose most probable class is healthy.
        called_target: share of healthy images whose most probable class is the target.
        definite_target: share of healthy images called the target without abstaining.
        recall: label -> share of its images whose most probable class it is.
        auroc: "covid/normal" -> AUROC of two classes, by their relative probability.
        threshold: fixed on inner left-out sites.
        sensitivity: share of target images above this threshold.
        answered: share of the images with a definite prediction.
        accuracy: of the definite predictions.
        calibration_error: of the definite predictions.
    """

    site: str
    patients: int
    images: dict[str, int]
    specificity: Interval | None
    called_target: Interval | None
    definite_target: Interval | None
    recall: dict[str, Interval]
    auroc: dict[str, Interval]
    threshold: float | None
    sensitivity: Interval | None
    answered: Interval
    accuracy: Interval
    calibration_error: Interval


class PairMetrics(JsonModel):
    """Target images of one site against healthy ones of another, both left out."""

    healthy_site: str
    target_site: str
    auroc: Interval


class OtherFinding(JsonModel):
    """Images of a disease that is no class, by a classifier without their site where there is one.

    Attributes:
        answered: share with a definite prediction; each is wrong.
        answered_healthy: share called healthy with a definite prediction.
    """

    label: str
    left_out: list[str]
    answered: Interval
    answered_healthy: Interval


class FitMetrics(JsonModel):
    """Held-out patients of the training sites: whether the classifier fits at all.

    Attributes:
        specificity: site -> of its healthy images.
        mean_specificity: mean of these.
    """

    accuracy: Interval
    specificity: dict[str, Interval]
    mean_specificity: Interval


class SitesReport(JsonModel):
    """The whole measurement of one recipe; intervals are 95 %, over patients."""

    labels: list[str]
    target: str
    healthy: str
    draws: int
    fit: FitMetrics
    sites: list[SiteMetrics]
    pairs: list[PairMetrics]
    pairs_mean: Interval | None
    pairs_worst: Interval | None
    other_findings: list[OtherFinding]
    skipped: list[list[str]]


Predict = Callable[[Fold], SitePredictions]


def measure_sites(
    plan: Plan,
    predict: Predict,
    *,
    least_patients: int = LEAST_PATIENTS,
    draws: int = BOOTSTRAP_DRAWS,
) -> SitesReport:
    """Measure a recipe at every site and pair of a plan.

    Args:
        plan: from `plan_folds`.
        predict: gives the predictions of a classifier that learned nothing from a fold's sites,
            for all images of these sites, and of other findings there. For the fold that leaves
            out no site: those of the test patients. Stored ones do as well: a mapping's
            `__getitem__`.
        least_patients: a class with fewer of them at a site is not measured there.
        draws: of the bootstrap.
    """
    pairs = [_pair_measure(plan, pair, predict(Fold(pair))) for pair in plan.pairs]
    pair_metrics, mean, worst = _measure_pairs(plan, pairs, draws)
    folds = [PATIENT_SPLIT, *(Fold((site,)) for site in plan.sites)]
    return SitesReport(
        labels=list(plan.labels),
        target=plan.target,
        healthy=plan.healthy,
        draws=draws,
        fit=_measure_fit(plan, predict(PATIENT_SPLIT), least_patients, draws),
        sites=[_measure_site(plan, site, predict, least_patients, draws) for site in plan.sites],
        pairs=pair_metrics,
        pairs_mean=mean,
        pairs_worst=worst,
        other_findings=[
            found for fold in folds for found in _measure_other(plan, fold, predict(fold), draws)
        ],
        skipped=[list(fold.left_out) for fold in plan.skipped],
    )


def _measure_site(
    plan: Plan, site: str, predict: Predict, least_patients: int, draws: int
) -> SiteMetrics:
    found = predict(Fold((site,)))
    found = found.where((found.sites == site) & found.is_known)
    measured = [x for x in plan.labels if found.patients_of(x) >= least_patients]
    threshold = nested_threshold(_inner(plan, site, predict), plan.target, plan.healthy)
    right = found.predicted == found.truth
    measures: dict[str, Measure] = {
        "answered": share_of(np.ones_like(right), found.definite),
        "accuracy": share_of(found.definite, right),
        "calibration_error": calibration_of(found),
    }
    if plan.healthy in measured:
        healthy, called = found.truth == plan.healthy, found.predicted == plan.target
        measures["specificity"] = share_of(healthy, right)
        measures["called_target"] = share_of(healthy, called)
        measures["definite_target"] = share_of(healthy, called & found.definite)
    if plan.target in measured and threshold is not None:
        detected = found.relative(plan.target, plan.healthy) > threshold
        measures["sensitivity"] = share_of(found.truth == plan.target, detected)
    recalls = {x: share_of(found.truth == x, right) for x in measured}
    areas = {f"{a}/{b}": auroc_between(found, a, b) for a, b in class_pairs(found, least_patients)}
    named = {f"recall {key}": value for key, value in recalls.items()}
    named |= {f"auroc {key}": value for key, value in areas.items()}
    values = with_intervals(measures | named, found.patients, draws)
    return SiteMetrics(
        site=site,
        patients=len(set(found.patients.tolist())),
        images={x: int((found.truth == x).sum()) for x in plan.labels},
        specificity=values.get("specificity"),
        called_target=values.get("called_target"),
        definite_target=values.get("definite_target"),
        recall={key: values[f"recall {key}"] for key in recalls},
        auroc={key: values[f"auroc {key}"] for key in areas},
        threshold=threshold,
        sensitivity=values.get("sensitivity"),
        answered=values["answered"],
        accuracy=values["accuracy"],
        calibration_error=values["calibration_error"],
    )


def _inner(plan: Plan, site: str, predict: Predict) -> list[SitePredictions]:
    """Images of the partner sites, by classifiers without them and without the site."""
    inner = []
    for pair in plan.pairs:
        if site in pair:
            found = predict(Fold(pair))
            inner.append(found.where((found.sites != site) & found.is_known))
    return inner


def _pair_measure(plan: Plan, pair: tuple[str, str], found: SitePredictions) -> SitePredictions:
    """The pair's own images: healthy ones of the first site, target ones of the second."""
    healthy = (found.sites == pair[0]) & (found.truth == plan.healthy)
    return found.where(healthy | ((found.sites == pair[1]) & (found.truth == plan.target)))


def _measure_pairs(
    plan: Plan, pairs: Sequence[SitePredictions], draws: int
) -> tuple[list[PairMetrics], Interval | None, Interval | None]:
    """Each pair, their mean and the worst; a patient is drawn for all pairs at once."""
    if not pairs:
        return [], None, None
    patients = np.concatenate([pair.patients for pair in pairs])
    number = np.repeat(np.arange(len(pairs)), [len(pair.patients) for pair in pairs])
    is_target = np.concatenate([pair.truth == plan.target for pair in pairs])
    score = np.concatenate([pair.relative(plan.target, plan.healthy) for pair in pairs])

    def area(chosen: Ints) -> float:
        return auroc(is_target[chosen], score[chosen])

    def areas(chosen: Ints) -> list[float]:
        return [area(chosen[number[chosen] == k]) for k in range(len(pairs))]

    everything = np.ones(len(patients), np.bool_)
    measures: dict[str, Measure] = {str(k): (number == k, area) for k in range(len(pairs))}
    measures["mean"] = everything, lambda chosen: float(np.mean(areas(chosen)))
    measures["worst"] = everything, lambda chosen: float(np.min(areas(chosen)))
    values = with_intervals(measures, patients, draws)
    rows = [
        PairMetrics(healthy_site=first, target_site=second, auroc=values[str(k)])
        for k, (first, second) in enumerate(plan.pairs)
    ]
    return rows, values["mean"], values["worst"]


def _measure_other(
    plan: Plan, fold: Fold, found: SitePredictions, draws: int
) -> list[OtherFinding]:
    others = found.where(~found.is_known)
    rows = []
    for label in sorted(set(others.truth.tolist())):
        own = others.where(others.truth == label)
        everything = np.ones(len(own.truth), np.bool_)
        healthy = own.definite & (own.predicted == plan.healthy)
        measures = {
            "answered": share_of(everything, own.definite),
            "healthy": share_of(everything, healthy),
        }
        values = with_intervals(measures, own.patients, draws)
        rows.append(
            OtherFinding(
                label=label,
                left_out=list(fold.left_out),
                answered=values["answered"],
                answered_healthy=values["healthy"],
            )
        )
    return rows


def _measure_fit(plan: Plan, found: SitePredictions, least_patients: int, draws: int) -> FitMetrics:
    found = found.where(found.is_known)
    right, healthy = found.predicted == found.truth, found.truth == plan.healthy
    sites = [
        site
        for site in sorted(set(found.sites.tolist()))
        if found.where(found.sites == site).patients_of(plan.healthy) >= least_patients
    ]
    of_site = {site: share_of(healthy & (found.sites == site), right) for site in sites}

    def mean(chosen: Ints) -> float:
        shares = [right[chosen[found.sites[chosen] == site]] for site in sites]
        return float(np.mean([own.mean() if len(own) else np.nan for own in shares]))

    measures = {
        "accuracy": share_of(np.ones_like(right), right),
        "mean": (healthy & np.isin(found.sites, sites), mean),
    }
    named = {f"site {site}": measure for site, measure in of_site.items()}
    values = with_intervals(measures | named, found.patients, draws)
    return FitMetrics(
        accuracy=values["accuracy"],
        specificity={site: values[f"site {site}"] for site in sites},
        mean_specificity=values["mean"],
    )
