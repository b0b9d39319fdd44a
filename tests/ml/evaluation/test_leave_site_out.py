"""The leave-site-out measurement: by predictions that are known, and in a tiny world of sites."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml.data.manifest import ImageRecord
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError
from ml.evaluation.leave_site_out import (
    PATIENT_SPLIT,
    Fold,
    Plan,
    SitesReport,
    measure_sites,
    plan_folds,
)
from ml.evaluation.metrics import auroc
from ml.evaluation.site_statistics import SitePredictions, nested_threshold, with_intervals
from ml.labels import LABELS
from ml.reporting.sites_report import render_sites, site_rows
from tests.support.classifier_world import QUICK, patient_in, tiny_network, write_data, xray
from tests.support.gan_world import one_thread

__all__ = ["one_thread", "tiny_network"]  # fixtures that all tests here use
PLAN = Plan(LABELS, "covid", "normal", ("east", "west"), (("west", "east"),), ())


def predictions(rows: list[tuple[str, str, float]], *, definite: bool = True) -> SitePredictions:
    """Images as (site, label, probability of COVID-19 against normal), a patient each."""
    sites, truth, covid = (np.array(column) for column in zip(*rows, strict=True))
    return SitePredictions(
        LABELS,
        truth,
        sites,
        np.array([f"{site}-{n}" for n, site in enumerate(sites)]),
        np.stack([0.9 * covid, np.full(len(covid), 0.1), 0.9 * (1 - covid)], axis=1),
        np.full(len(covid), definite),
    )


EAST = [("east", "covid", 0.21 + 0.07 * n) for n in range(10)]
WEST = [("west", "normal", 0.08 * n) for n in range(10)]


def folds() -> dict[Fold, SitePredictions]:
    other = [("west", "tuberculosis", 0.9)] * 3 + [("west", "tuberculosis", 0.1)]
    return {
        Fold(("east",)): predictions(EAST),
        Fold(("west",)): predictions(WEST + other),
        Fold(("west", "east")): predictions(WEST + EAST),
        PATIENT_SPLIT: predictions(WEST[:5] + [("east", "normal", 0.9)] * 5 + EAST),
    }


@pytest.fixture(scope="module")
def report() -> SitesReport:
    return measure_sites(PLAN, folds().__getitem__, least_patients=5, draws=200)


def test_healthy_people_of_the_left_out_site_are_counted(report: SitesReport) -> None:
    west = report.sites[1]
    assert west.specificity
    assert west.called_target
    assert west.definite_target
    # 0.08 * n is above one half from n = 7 on.
    assert west.specificity.value == pytest.approx(0.7)
    assert west.called_target.value == west.definite_target.value == pytest.approx(0.3)
    assert west.specificity.low < 0.7 < west.specificity.high
    assert west.images == {"covid": 0, "pneumonia": 0, "normal": 10}
    assert west.specificity.n == 10
    assert west.auroc == {}
    assert west.sensitivity is None


def test_sensitivity_is_at_the_threshold_of_the_inner_site(report: SitesReport) -> None:
    east = report.sites[0]
    assert east.threshold == pytest.approx(0.72)
    assert east.sensitivity
    assert east.sensitivity.value == pytest.approx(np.mean([row[2] > 0.72 for row in EAST]))
    assert east.recall["covid"].value == pytest.approx(np.mean([row[2] > 0.5 for row in EAST]))


def test_threshold_does_not_see_the_site_it_is_for() -> None:
    changed = folds()
    worse = [(site, label, 0.99) for site, label, _ in EAST]
    changed[Fold(("west", "east"))] = predictions(WEST + worse)
    found = measure_sites(PLAN, changed.__getitem__, least_patients=5, draws=10)
    assert found.sites[0].threshold == pytest.approx(0.72)


def test_threshold_holds_at_every_inner_site() -> None:
    low, high = predictions(WEST), predictions([("north", "normal", 0.9)] * 5)
    assert nested_threshold([low, high], "covid", "normal") == pytest.approx(0.9)
    assert nested_threshold([predictions(EAST)], "covid", "normal") is None


def test_pair_is_target_of_one_site_against_healthy_of_the_other(report: SitesReport) -> None:
    score = np.array([row[2] for row in WEST + EAST])
    expected = auroc(np.arange(20) >= 10, score)
    assert [pair.auroc.value for pair in report.pairs] == [pytest.approx(expected)]
    assert report.pairs_mean
    assert report.pairs_worst
    assert report.pairs_mean.value == report.pairs_worst.value == pytest.approx(expected)


def test_other_finding_is_measured_where_its_site_is_left_out(report: SitesReport) -> None:
    (other,) = report.other_findings
    assert (other.label, other.left_out) == ("tuberculosis", ["west"])
    assert other.answered.value == 1
    assert other.answered_healthy.value == pytest.approx(0.25)


def test_fit_is_specificity_of_held_out_patients_site_by_site(report: SitesReport) -> None:
    fit = report.fit
    assert {site: own.value for site, own in fit.specificity.items()} == {"east": 0, "west": 1}
    assert fit.mean_specificity.value == pytest.approx(0.5)


def test_uncertain_predictions_are_no_definite_ones() -> None:
    found = {fold: replace(one, definite=~one.definite) for fold, one in folds().items()}
    east, west = measure_sites(PLAN, found.__getitem__, least_patients=5, draws=10).sites
    assert west.definite_target
    assert west.definite_target.value == 0
    assert east.answered.value == 0
    assert np.isnan(east.accuracy.value)


def test_interval_is_over_patients() -> None:
    hits = np.array([True] * 50 + [False] * 50)
    everything = np.ones(100, np.bool_)

    def width(patients: np.ndarray) -> float:
        measure = {"share": (everything, lambda chosen: float(hits[chosen].mean()))}
        found = with_intervals(measure, patients, draws=300)["share"]
        return found.high - found.low

    assert width(np.repeat(np.arange(4).astype(str), 25)) > width(np.arange(100).astype(str))


def test_report_is_read_back_and_shown(report: SitesReport) -> None:
    assert SitesReport.from_json(report.to_json()) == report
    page = render_sites(report)
    assert "| west | specificity | 0.700 |" in page
    assert page.count("\n| ") == len(site_rows(report)) + 2


def records(counts: dict[tuple[str, str], int]) -> list[ImageRecord]:
    return [
        ImageRecord(Path(f"{site}{label}{part}{n}"), label, site, patient_in(part, 97 * n + k))
        for k, ((site, label), count) in enumerate(counts.items())
        for n in range(count)
        for part in (Split.TRAIN, Split.VALIDATION)
    ]


def test_plan_pairs_sites_and_skips_what_cannot_be_learned() -> None:
    images = records(
        {
            ("a", "normal"): 3, ("a", "pneumonia"): 2, ("b", "normal"): 3, ("b", "pneumonia"): 2,
            ("c", "covid"): 3, ("d", "covid"): 3, ("d", "normal"): 1,
        }
    )  # fmt: skip
    plan = plan_folds(images, least_pair_patients=4)
    assert plan.sites == ("a", "b", "c", "d")
    assert plan.pairs == (("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"))
    assert plan.folds[0] == PATIENT_SPLIT
    without_d = [image for image in images if image.site != "d"]
    plan = plan_folds(without_d, least_pair_patients=4)
    # Without c nobody has COVID-19.
    assert plan.sites == ("a", "b")
    assert plan.skipped == (Fold(("c",)), Fold(("a", "c")), Fold(("b", "c")))
    with pytest.raises(DataError, match="at least two sites"):
        plan_folds([image for image in images if image.site == "c"])


def test_command_trains_without_each_site_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = ("east", "north", "west")
    images = {Split.TRAIN: 12, Split.VALIDATION: 6, Split.TEST: 6}
    data, out = write_data(tmp_path / "set", images, sources=sites), tmp_path / "out"
    command = ("evaluate", "sites", "--data", data, "--out", out, *QUICK)
    done = xray(*command)
    assert done.exit_code == 0, done.output
    found = SitesReport.from_json((out / "sites.json").read_bytes())
    assert [site.site for site in found.sites] == list(sites)
    assert sum(sum(site.images.values()) for site in found.sites) == 72
    assert (out / "sites.md").read_text() == render_sites(found)
    assert "specificity" in done.stdout
    folders = {path.name for path in (out / "folds").iterdir()}
    assert folders == {"held-out-patients", *sites}
    # Nothing is trained again, and the result is the same.
    before = (out / "sites.json").read_text()
    monkeypatch.setattr("ml.evaluation.site_trainings.train_classifier", None)
    assert xray(*command).exit_code == 0
    assert (out / "sites.json").read_text() == before
    with pytest.raises(CheckpointError, match="other options"):
        raise xray(*command, "--seed", 1).exception  # type: ignore[misc]
