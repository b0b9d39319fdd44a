"""Metrics against a second implementation, and in worlds small enough to reckon by hand."""

import numpy as np
import pytest
from sklearn import metrics as reference

from ml.classifier import calibration
from ml.evaluation import metrics


@pytest.fixture
def answers() -> tuple[metrics.Ints, metrics.Floats]:
    random = np.random.default_rng(3)
    truth = random.integers(3, size=200)
    logits = random.normal(size=(200, 3)) + 1.2 * np.eye(3)[truth]
    return truth, metrics.softmax(logits)


def test_metrics_equal_scikit_learn(answers: tuple[metrics.Ints, metrics.Floats]) -> None:
    truth, probabilities = answers
    predicted = probabilities.argmax(axis=1)
    assert metrics.accuracy(truth, probabilities) == reference.accuracy_score(truth, predicted)
    assert metrics.log_loss(truth, probabilities) == pytest.approx(
        reference.log_loss(truth, probabilities)
    )
    assert metrics.macro_auroc(truth, probabilities) == pytest.approx(
        reference.roc_auc_score(truth, probabilities, multi_class="ovr")
    )
    confusion = metrics.confusion_matrix(truth, predicted, 3)
    assert (confusion == reference.confusion_matrix(truth, predicted)).all()
    expected = reference.precision_recall_fscore_support(truth, predicted)
    for k, ours in enumerate(metrics.per_class(confusion)):
        assert (ours.precision, ours.recall, ours.f1, ours.support) == pytest.approx(
            tuple(column[k] for column in expected)
        )


def test_auroc_counts_ties_half() -> None:
    positive = np.array([True, True, False, False])
    score = np.array([0.5, 0.9, 0.5, 0.1])
    assert metrics.auroc(positive, score) == pytest.approx(reference.roc_auc_score(positive, score))
    assert metrics.auroc(positive, np.zeros(4)) == 0.5
    assert np.isnan(metrics.auroc(np.ones(4, dtype=bool), score))


def test_pairwise_auroc_leaves_the_third_class_out() -> None:
    truth = np.array([0, 1, 2])
    probabilities = np.array([[0.2, 0.1, 0.7], [0.1, 0.2, 0.7], [0.9, 0.05, 0.05]])
    assert metrics.pairwise_auroc(truth, probabilities, 0, 1) == 1.0


def test_bootstrap_draws_patients_not_images() -> None:
    """One patient with all the images: every draw is the same, so the interval is a point."""
    truth = np.array([0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    one = metrics.bootstrap(metrics.accuracy, truth, probabilities, np.array(["a"] * 4), draws=50)
    assert one.low == one.value == one.high == 0.75
    many = metrics.bootstrap(metrics.accuracy, truth, probabilities, np.array(list("abcd")))
    assert many.low < many.value < many.high


def test_calibration_error_of_an_honest_forecast_is_small() -> None:
    random = np.random.default_rng(0)
    chance = random.uniform(0.5, 1, 50_000)
    truth = (random.random(50_000) > chance).astype(np.int64)
    honest = np.stack([chance, 1 - chance], axis=1)
    assert metrics.calibration_error(truth, honest) < 0.01
    boasting = np.tile([[0.99, 0.01]], (50_000, 1))
    assert metrics.calibration_error(truth, boasting) == pytest.approx(0.24, abs=0.01)


def test_temperature_undoes_overconfidence() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(4000, 3)) * 2
    truth = np.array([random.choice(3, p=row) for row in metrics.softmax(logits)])
    assert calibration.fit_temperature(logits * 2.5, truth) == pytest.approx(2.5, rel=0.08)


def test_confidence_threshold_reaches_its_target() -> None:
    random = np.random.default_rng(2)
    confidence = random.uniform(0.34, 1, 3000)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    probabilities.sort(axis=1)
    probabilities = probabilities[:, ::-1]
    truth = (random.random(3000) > probabilities[:, 0]).astype(np.int64)
    threshold = calibration.confidence_threshold(truth, probabilities, 0.9)
    given = probabilities[:, 0] >= threshold
    assert metrics.accuracy(truth[given], probabilities[given]) >= 0.9
    assert given.mean() > 0.2
    end_with_parent = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2]])
    threshold = calibration.confidence_threshold(np.array([0, 0, 1, 1]), end_with_parent, 0.95)
    assert threshold == 0.9, "images of equal confidence are answered together"
    assert calibration.confidence_threshold(1 - truth * 0, probabilities, 0.9) == 1.0


def test_ood_score_is_about_one_at_home_and_large_elsewhere() -> None:
    random = np.random.default_rng(4)
    centres = random.normal(size=(3, 20)) * 3
    labels = random.integers(3, size=600)
    known = centres[labels] + random.normal(size=(600, 20))
    space = calibration.fit_familiarity(known, labels, 3, dims=8)
    at_home = centres[labels[:100]] + random.normal(size=(100, 20))
    assert np.median(space.ood_score(at_home)) == pytest.approx(1, abs=0.2)
    assert space.ood_score(at_home + 30).min() > 3
