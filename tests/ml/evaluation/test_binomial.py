"""Exact limits and two-sample tests, against scipy."""

import numpy as np
import pytest
from scipy import stats

from ml.evaluation.binomial import (
    beta_cdf,
    clopper_pearson,
    images_needed,
    lower_limit,
    upper_limit,
)
from ml.evaluation.two_sample import (
    Moments,
    chi_square,
    chi_square_tail,
    hotelling,
    kolmogorov_smirnov,
)


@pytest.mark.parametrize(
    ("hits", "images"), [(0, 1), (0, 59), (3, 50), (49, 50), (50, 50), (7, 999)]
)
def test_interval_is_that_of_scipy(hits: int, images: int) -> None:
    expected = stats.binomtest(hits, images).proportion_ci(0.95, method="exact")
    found = clopper_pearson(hits, images)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (found.value, found.n) == (pytest.approx(hits / images), images)


def test_no_image_says_nothing() -> None:
    found = clopper_pearson(0, 0)
    assert np.isnan(found.value)
    assert (found.low, found.high, found.n) == (0.0, 1.0, 0)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (1, 40), (200, 3), (1000, 1000)])
def test_beta_distribution_is_that_of_scipy(a: float, b: float) -> None:
    for x in (0.0, 1e-4, 0.2, 0.5, 0.987, 1.0):
        assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-11)


def test_needed_images_are_the_fewest() -> None:
    assert (images_needed(0.05), images_needed(0.02)) == (59, 149)
    assert upper_limit(0, 59) <= 0.05 < upper_limit(0, 58)
    assert lower_limit(59, 59) == pytest.approx(1 - upper_limit(0, 59))


def test_tests_of_two_samples_are_those_of_scipy() -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(size=180), random.normal(0.25, size=240)
    ours, theirs = kolmogorov_smirnov(first, second), stats.ks_2samp(first, second)
    assert ours.statistic == pytest.approx(theirs.statistic)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=0.1)
    counts = [[30, 50, 11, 0], [45, 30, 20, 0]]
    expected = stats.chi2_contingency([row[:3] for row in counts], correction=False)
    found = chi_square(*counts)
    assert tuple(found) == pytest.approx((expected.statistic, expected.pvalue))
    for degrees in range(1, 8):
        assert chi_square_tail(4.2, degrees) == pytest.approx(stats.chi2.sf(4.2, degrees))


def test_hotelling_of_one_direction_is_the_t_test() -> None:
    random = np.random.default_rng(5)
    first, second = random.normal(size=(40, 1)), random.normal(0.4, size=(55, 1))
    found = hotelling(Moments.of(first), Moments.of(second))
    assert found.p_value == pytest.approx(stats.ttest_ind(first[:, 0], second[:, 0]).pvalue)


def test_hotelling_alarms_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    alarms = [
        hotelling(
            Moments.of(random.normal(size=(60, 8))), Moments.of(random.normal(size=(80, 8)))
        ).p_value
        < 0.05
        for _ in range(400)
    ]
    assert 0.02 < np.mean(alarms) < 0.09
    assert hotelling(Moments.of(np.ones((2, 8))), Moments.of(np.ones((2, 8)))).p_value == 1.0
