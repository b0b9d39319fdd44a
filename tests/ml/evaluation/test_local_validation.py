"""Validation on a clinic's images: the report, its page, drift, and what is missing."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ml.classifier.predictor import Prediction
from ml.commands.main import app
from ml.data.manifest import ImageRecord
from ml.errors import DataError
from ml.evaluation.drift import compare_with_reference, reference_of
from ml.evaluation.local_validation import ValidationReport, validate_classifier
from ml.labels import LABELS
from ml.options.validation import ValidationOptions
from ml.reporting.validation_report import render_validation
from tests.support.images import png, synthetic_image
from tests.support.tiny_models import write_classifier

SHA = "a" * 64


def predictions(count: int, *, shift: float = 0.0, seed: int = 0) -> list[Prediction]:
    """Predictions whose most probable class is in turn each of the classes."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        top = float(np.clip(random.uniform(0.6, 0.99) - shift, 0.4, 0.99))
        label = LABELS[number % 3]
        probabilities = {each: top if each == label else (1 - top) / 2 for each in LABELS}
        found.append(
            Prediction(
                label=label,
                decision=label,
                reason=None,
                probabilities=probabilities,
                ood_score=float(random.normal(1 + shift, 0.1)),
                embedding=random.normal(shift, 1.0, size=40).astype(np.float32),
                activation_map=np.zeros((3, 1, 1), np.float32),
            )
        )
    return found


def records(count: int) -> list[ImageRecord]:
    """Images whose truth is what `predictions` says, but for every tenth."""
    return [
        ImageRecord(
            Path(f"{number}.png"),
            LABELS[(number + (number % 10 == 9)) % 3],
            "here",
            f"patient {number}",
        )
        for number in range(count)
    ]


@pytest.fixture
def card(tmp_path: Path):  # type: ignore[no-untyped-def]
    return write_classifier(tmp_path / "bundle", version="tiny", answer="normal")


def validate(card, count: int, **given) -> ValidationReport:  # type: ignore[no-untyped-def]
    labelled = given.pop("labelled", True)
    options = ValidationOptions(**given)
    return validate_classifier(card, records(count), predictions(count), options, labelled=labelled)


def test_report_has_thresholds_for_the_sensitivity_and_predictive_values(card) -> None:  # type: ignore[no-untyped-def]
    report = validate(card, 600, sensitivity=0.8, prevalence=0.1)
    assert report.labelled is not None
    point = next(one for one in report.labelled.operating_points if one.label == "covid")
    assert point.sensitivity.value == pytest.approx(0.8, abs=0.05)
    hit, spare = point.sensitivity.value, point.specificity.value
    expected = 0.1 * hit / (0.1 * hit + 0.9 * (1 - spare))
    assert point.positive_predictive_value.value == pytest.approx(expected)
    assert point.positive_predictive_value.low < expected < point.positive_predictive_value.high
    assert set(report.labelled.auroc) == {"covid/pneumonia", "covid/normal", "pneumonia/normal"}
    # One in ten is wrong at every confidence, so no class proves 5 %.
    assert set(report.labelled.thresholds.values()) == {1.01}
    assert report.labelled.own_thresholds.right.value == pytest.approx(0.9)
    assert "At no threshold do the images prove the bounds." in " ".join(report.needs)


def test_page_is_one_file_that_says_what_is_missing(card) -> None:  # type: ignore[no-untyped-def]
    report = validate(card, 60)
    page = render_validation(ValidationReport.from_json(report.to_json()))
    assert "<script" not in page
    assert "http" not in page
    assert "At least 86 are" in page
    assert "--training-data" in page


def test_too_few_images_are_refused_with_the_number_that_is_needed(card) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=r"at least 50 with labels .* or 200 without"):
        validate(card, 49)
    with pytest.raises(DataError, match="200 without"):
        validate(card, 199, labelled=False)
    report = validate(card, 200, labelled=False)
    assert report.labelled is None
    assert (report.by_label, sum(report.decisions.values())) == ({}, 200)
    assert "have no labels" in render_validation(report)


def test_drift_is_found_where_it_is_and_not_where_it_is_not() -> None:
    reference = reference_of(SHA, predictions(300))
    same = compare_with_reference(reference, predictions(200, seed=1))
    assert not same.differs
    shifted = compare_with_reference(reference, predictions(200, seed=1, shift=0.5))
    assert {test.property for test in shifted.tests if test.differs} == {
        "confidence",
        "ood_score",
        "embedding",
    }
    with pytest.raises(DataError, match="at least 50"):
        compare_with_reference(reference, predictions(49))


def test_drift_alarms_without_a_difference_as_rarely_as_it_says() -> None:
    alarms = [
        compare_with_reference(
            reference_of(SHA, predictions(150, seed=2 * seed)),
            predictions(100, seed=2 * seed + 1),
        ).differs
        for seed in range(200)
    ]
    assert np.mean(alarms) <= 0.03


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(one) for one in arguments])


def write_images(folder: Path, count: int, *, labels: bool) -> Path:
    folder.mkdir()
    random = np.random.default_rng(1)
    rows = []
    for number in range(count):
        name = f"{number:03}.png"
        (folder / name).write_bytes(png(synthetic_image(random, 140, 150)))
        rows.append((name, "normal" if number % 5 else "covid", "here", f"p{number}"))
    if labels:
        with (folder / "manifest.csv").open("w", newline="") as lines:
            csv.writer(lines).writerows([("image", "label", "source", "patient"), *rows])
    return folder


def test_command_validates_a_folder_with_a_manifest(tmp_path: Path) -> None:
    write_classifier(tmp_path / "bundle", version="tiny", answer="normal")
    data = write_images(tmp_path / "data", 55, labels=True)
    (data / "000.png").write_bytes(b"no image")
    out = tmp_path / "out"
    result = run("validate", "--data", data, "--bundle", tmp_path / "bundle", "--out", out)
    assert result.exit_code == 0, result.output
    found = json.loads((out / "validation.json").read_text())
    assert (found["images"], found["unreadable"]) == (54, 1)
    assert found["decisions"] == {"normal": 54}
    assert "not read:" in result.output
    assert (out / "report.html").read_text().startswith("<!doctype html>")


def test_command_needs_more_images_without_labels(tmp_path: Path) -> None:
    write_classifier(tmp_path / "bundle", version="tiny", answer="normal")
    data = write_images(tmp_path / "data", 3, labels=False)
    result = run("validate", "--data", data, "--bundle", tmp_path / "bundle", "--out", tmp_path)
    assert isinstance(result.exception, DataError)
    assert "at least 50 with labels" in str(result.exception)
