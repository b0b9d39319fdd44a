"""Thresholds that hold at every left-out site."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml.classifier.calibration import NEVER
from ml.errors import CheckpointError, DataError
from ml.evaluation.site_calibration import fit_site_rule, read_left_out
from ml.evaluation.site_statistics import SitePredictions
from ml.evaluation.site_trainings import StoredPredictions
from ml.labels import LABELS
from ml.options.classifier import ClassifierOptions


def predictions(rows: list[tuple[str, str, str, float]]) -> SitePredictions:
    """Images as (site, truth, predicted, confidence), a patient each."""
    sites, truth, predicted, confidence = (np.array(column) for column in zip(*rows, strict=True))
    probabilities = np.repeat((1 - confidence.astype(float))[:, None] / 2, 3, axis=1)
    places = [LABELS.index(label) for label in predicted]
    probabilities[np.arange(len(rows)), places] = confidence.astype(float)
    patients = np.array([str(n) for n in range(len(rows))])
    return SitePredictions(
        LABELS, truth, sites, patients, probabilities, np.ones(len(rows), np.bool_)
    )


GOOD = [("good", "normal", "normal", 0.6 + 0.003 * n) for n in range(100)]


def test_one_site_that_fails_raises_the_threshold_for_all() -> None:
    alone = fit_site_rule(predictions(GOOD))
    assert alone.answered == {"good": pytest.approx(1.0)}
    # Healthy people called COVID-19 at up to 0.85, and the truly ill at more.
    failing = [("bad", "normal", "covid", 0.5 + 0.0035 * n) for n in range(100)]
    ill = [("bad", "covid", "covid", 0.86 + 0.001 * n) for n in range(100)]
    rule = fit_site_rule(predictions([*GOOD, *failing, *ill]))
    assert rule.by_label["covid"] > 0.84
    assert rule.by_label["normal"] < 0.7
    assert rule.answered["good"] == pytest.approx(1.0)


def test_a_class_that_is_wrong_at_any_confidence_is_never_predicted() -> None:
    wrong = [("bad", "normal", "covid", 0.5 + 0.0049 * n) for n in range(100)]
    rule = fit_site_rule(predictions([*GOOD, *wrong]))
    assert rule.by_label["covid"] == NEVER
    assert rule.answered["bad"] == 0


def test_another_finding_may_not_be_called_healthy() -> None:
    others = [("good", "tuberculosis", "normal", 0.6 + 0.002 * n) for n in range(100)]
    rule = fit_site_rule(predictions([*GOOD, *others]))
    assert rule.by_label["normal"] > 0.78


def stored(options: ClassifierOptions, patient: str) -> StoredPredictions:
    sites = options.leave_out.split(",")
    return StoredPredictions(
        options=options,
        learned_sha256="a",
        measured_sha256="b",
        labels=list(LABELS),
        truth=["normal"] * len(sites),
        sites=sites,
        patients=[patient] * len(sites),
        probabilities=[[0.1, 0.2, 0.7]] * len(sites),
        definite=[True] * len(sites),
    )


def test_sites_left_out_alone_count_before_those_left_out_together(tmp_path: Path) -> None:
    own = ClassifierOptions(epochs=2)
    for name in ("", "east", "east,west", "north,west"):
        folder = tmp_path / "folds" / (name or "none")
        folder.mkdir(parents=True)
        one = stored(replace(own, leave_out=name, seed=3), patient=name)
        (folder / "predictions.json").write_text(one.to_json())
    found = read_left_out(tmp_path, own)
    rows = sorted(zip(found.sites.tolist(), found.patients.tolist(), strict=True))
    assert rows == [
        ("east", "east"),
        ("north", "north,west"),
        ("west", "east,west"),
        ("west", "north,west"),
    ]
    with pytest.raises(CheckpointError, match="other options"):
        read_left_out(tmp_path, ClassifierOptions(epochs=3))
    with pytest.raises(DataError, match="Run xray evaluate sites"):
        read_left_out(tmp_path / "elsewhere", own)
