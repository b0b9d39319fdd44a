"""Thresholds of a clinic: what they prove, when they stay silent, and how often they break."""

import numpy as np
import pytest
from numpy.random import Generator

from ml.classifier.calibration import NEVER
from ml.evaluation.local_curve import PLAIN, PROVED, measure_curves
from ml.evaluation.local_rule import (
    LEAST_DEFINITE,
    LEAST_HEALTHY,
    cross_validated,
    fit_local_rule,
    fit_plain_rule,
    is_definite,
    one_per_patient,
)
from ml.evaluation.site_statistics import SitePredictions
from ml.labels import LABELS
from ml.reporting.local_curve_report import curve_rows, draw_curves, render_curves


def clinic(truth: list[str], predicted: list[str], confidence: list[float]) -> SitePredictions:
    """Images of a patient each."""
    places = [LABELS.index(label) for label in predicted]
    probabilities = np.repeat((1 - np.array(confidence))[:, None] / 2, 3, axis=1)
    probabilities[np.arange(len(truth)), places] = confidence
    patients = np.array([f"p{number}" for number in range(len(truth))])
    return SitePredictions(
        LABELS,
        np.array(truth),
        np.array(["here"] * len(truth)),
        patients,
        probabilities,
        np.ones(len(truth), np.bool_),
    )


def random_clinic(random: Generator, images: int, wrong: float = 0.3) -> SitePredictions:
    """The more confident, the more often right; at a confidence of 0.5 so often wrong."""
    truth = random.choice(LABELS, size=images, p=(0.2, 0.2, 0.6))
    confidence = random.uniform(0.5, 1.0, size=images)
    is_wrong = random.uniform(size=images) < wrong * (1 - confidence) * 2
    others = random.choice(LABELS, size=images)
    predicted = np.where(is_wrong, others, truth)
    return clinic(truth.tolist(), predicted.tolist(), confidence.tolist())


def by_label(found: SitePredictions) -> dict[str, float]:
    return {one.label: one.threshold for one in fit_local_rule(found)}


def test_class_is_answered_once_enough_images_prove_it() -> None:
    def normals(count: int) -> SitePredictions:
        confidence = np.linspace(0.6, 0.99, count).tolist()
        return clinic(["normal"] * count, ["normal"] * count, confidence)

    (rule,) = [one for one in fit_local_rule(normals(LEAST_DEFINITE)) if one.label == "normal"]
    assert rule.threshold == pytest.approx(0.6)
    assert (rule.definite, rule.wrong, rule.why_never) == (LEAST_DEFINITE, 0, "")
    assert rule.wrong_at_most <= 0.05
    (rule,) = [one for one in fit_local_rule(normals(LEAST_DEFINITE - 1)) if one.label == "normal"]
    assert rule.threshold == NEVER
    assert f"At least {LEAST_DEFINITE}" in rule.why_never


def test_covid_needs_healthy_patients_that_are_not_called_it() -> None:
    def mixed(healthy: int) -> SitePredictions:
        ill = 120
        return clinic(
            ["covid"] * ill + ["normal"] * healthy,
            ["covid"] * ill + ["normal"] * healthy,
            [0.9] * (ill + healthy),
        )

    assert by_label(mixed(LEAST_HEALTHY))["covid"] == pytest.approx(0.9)
    (rule,) = [one for one in fit_local_rule(mixed(40)) if one.label == "covid"]
    assert rule.threshold == NEVER
    assert f"There are 40 healthy patients. At least {LEAST_HEALTHY}" in rule.why_never


def test_images_of_one_patient_count_once() -> None:
    found = clinic(["normal"] * 100, ["normal"] * 100, [0.9] * 100)
    one = SitePredictions(
        found.labels,
        found.truth,
        found.sites,
        np.array(["same"] * 100),
        found.probabilities,
        found.definite,
    )
    assert len(one_per_patient(one).truth) == 1
    assert by_label(one)["normal"] == NEVER


def test_other_findings_are_always_wrong() -> None:
    found = clinic(["tuberculosis"] * 200, ["normal"] * 200, [0.9] * 200)
    assert by_label(found)["normal"] == NEVER


def test_proved_thresholds_break_their_bound_as_rarely_as_they_say() -> None:
    random = np.random.default_rng(1)
    everyone = random_clinic(random, 20_000)
    broken = dict.fromkeys(LABELS, 0)
    answered = 0
    for _ in range(100):
        chosen = random.choice(len(everyone.truth), size=600, replace=False)
        rule = by_label(everyone.where(chosen))
        definite = is_definite(everyone, rule)
        answered += bool(definite.any())
        for label in LABELS:
            own = definite & (everyone.predicted == label)
            broken[label] += bool(own.any() and (everyone.truth[own] != label).mean() > 0.05)
    assert answered > 40
    # 5 % each, and the noise of 100 draws.
    assert max(broken.values()) <= 11


def test_plain_thresholds_hold_on_their_own_images_and_break_on_others() -> None:
    random = np.random.default_rng(2)
    everyone = random_clinic(random, 20_000)
    broken = 0
    for _ in range(50):
        chosen = random.choice(len(everyone.truth), size=50, replace=False)
        own = everyone.where(chosen)
        rule = fit_plain_rule(own)
        definite = is_definite(own, rule)
        right = own.truth == own.predicted
        for label in LABELS:
            named = definite & (own.predicted == label)
            assert not named.any() or right[named].mean() >= 0.95
        outside = is_definite(everyone, rule)
        wrong = everyone.truth[outside] != everyone.predicted[outside]
        broken += bool(outside.any() and wrong.mean() > 0.05)
    assert broken > 25


def test_estimate_is_of_images_that_took_no_part() -> None:
    found = random_clinic(np.random.default_rng(4), 1000, wrong=0.1)
    given = cross_validated(found, by_label)
    assert 0 < given.answered.value < 1
    assert given.right.low > 0.9
    assert given.healthy_called_target.n == int((found.truth == "normal").sum())


def test_curves_begin_with_the_thresholds_of_the_training_sites() -> None:
    curves = measure_curves({"a + b": random_clinic(np.random.default_rng(6), 400)}, draws=20)
    (hospital,) = curves.hospitals
    assert [(point.labelled, point.rule) for point in hospital.points] == [
        (0, PROVED),
        *((count, rule) for count in (20, 50, 100, 200) for rule in (PROVED, PLAIN)),
    ]
    assert hospital.points[0].answered.value == pytest.approx(1.0)
    few = hospital.points[1]
    assert (few.answered.value, few.silent) == (0.0, 1.0)
    rows = list(curve_rows(curves))
    assert rows[0][2] == "of the training sites"
    assert "| a + b | 200 | plain |" in render_curves(curves)
    assert draw_curves(curves).startswith("<svg")


def test_hospital_with_too_few_images_is_not_measured_there() -> None:
    curves = measure_curves({"small": random_clinic(np.random.default_rng(7), 90)}, draws=10)
    assert {point.labelled for point in curves.hospitals[0].points} == {0, 20}
