"""Comparisons: two classifiers on the same test images, and a card that has to be true."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from ml.classifier.bundle import CARD, PRETRAINED, read_bundle
from ml.classifier.card import ModelCard, TrainingData
from ml.classifier.predictor import Predictor
from ml.data.loading import load_images
from ml.data.manifest import in_split, read_manifest
from ml.data.splits import Split
from ml.errors import DataError
from ml.evaluation.compare import (
    CARD_TOLERANCE,
    check_card,
    compare_classifiers,
    paired_differences,
    worse_metrics,
)
from ml.evaluation.comparison_report import MetricDifferences
from ml.evaluation.evaluate import Predictions, left_out_images, metrics_of, predict_images
from ml.evaluation.metrics import Interval, softmax
from ml.evaluation.results import EvaluationMetrics
from ml.labels import LABELS
from tests.support.classifier_world import QUICK, tiny_network, write_data, write_synthetic, xray
from tests.support.gan_world import one_thread

__all__ = ["one_thread", "tiny_network"]  # fixtures that all tests here use
IMAGES = {Split.TRAIN: 20, Split.VALIDATION: 8, Split.TEST: 10}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("world") / "set", IMAGES, sources=("north", "south"))


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that has learned these images, of 32 px; the released one has not, of 224 px."""
    run = tmp_path_factory.mktemp("run")
    done = xray(
        "train", "classifier", "--data", data, "--out", run, *QUICK, "--epochs", 3,
        "--bundle-version", "tiny",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return run / "bundle"


@pytest.fixture(scope="module")
def told(bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the command says and writes."""
    out = tmp_path_factory.mktemp("compared") / "out"
    done = xray("compare", "classifiers", "--data", data, "--bundle", bundle, "--out", out)
    assert done.exit_code == 0, done.output
    return done.stdout, out


@pytest.fixture(scope="module")
def found(told: tuple[str, Path]) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((told[1] / "comparison.json").read_text())
    return written


def test_both_answer_the_same_images_at_their_own_size(
    found: dict[str, Any], bundle: Path, data: Path
) -> None:
    assert (found["images"], found["patients"]) == (30, 15)
    images = in_split(read_manifest(data), Split.TEST)
    for side, folder in (("candidate", bundle), ("reference", PRETRAINED)):
        predictor = Predictor.load(folder)
        answers = predict_images(
            predictor, load_images(images, predictor.card.input_size, title="")
        )
        own = found[side]
        assert own["sha256"] == predictor.card.sha256
        assert own["version"] == predictor.card.version
        best = answers.probabilities.argmax(axis=1)
        assert own["metrics"]["accuracy"]["value"] == pytest.approx(
            reference.accuracy_score(answers.truth, best)
        )
        assert own["metrics"]["macro_auroc"]["value"] == pytest.approx(
            reference.roc_auc_score(answers.truth, answers.probabilities, multi_class="ovr")
        )


def test_differences_are_those_of_the_metrics(found: dict[str, Any]) -> None:
    for name in ("accuracy", "macro_auroc"):
        ours, theirs = (found[side]["metrics"][name] for side in ("candidate", "reference"))
        one = found["differences"][name]
        assert one["value"] == pytest.approx(ours["value"] - theirs["value"])
        assert one["low"] < one["value"] < one["high"]
    assert found["passed"] is not any(one["high"] < 0 for one in found["differences"].values())


def predictions_of(truth: Any, skill: float, *, noise: int) -> Predictions:
    """Predictions for 300 images of 150 patients; more skill, more of them correct."""
    random = np.random.default_rng(noise)
    probabilities = softmax(random.normal(size=(300, 3)) + skill * np.eye(3)[truth])
    return Predictions(
        labels=LABELS,
        truth=truth,
        probabilities=probabilities,
        uncertain=np.zeros(300, dtype=bool),
        out_of_distribution=np.zeros(300, dtype=bool),
        patients=np.array([f"p{number // 2}" for number in range(300)]),
        sources=np.full(300, "north"),
    )


def both(differences: MetricDifferences) -> tuple[Interval, Interval]:
    return differences.accuracy, differences.macro_auroc


TRUTH = np.random.default_rng(5).integers(3, size=300)
GOOD, POOR = (predictions_of(TRUTH, skill, noise=1) for skill in (2.0, 1.0))


def test_worse_beyond_its_interval_is_a_fault_and_better_is_none() -> None:
    card, _ = read_bundle(PRETRAINED)
    new, old = (card.model_copy(update={"version": name}) for name in ("new", "old"))
    gained, lost = paired_differences(GOOD, POOR), paired_differences(POOR, GOOD)
    assert gained.accuracy.low > 0
    assert worse_metrics(gained, new, old) == []
    for one, other in zip(both(lost), both(gained), strict=True):
        turned = [-other.value, -other.high, -other.low]
        assert [one.value, one.low, one.high] == pytest.approx(turned)
    less = lost.accuracy
    faults = worse_metrics(lost, new, old)
    assert len(faults) == 2
    assert faults[0] == (
        f"Classifier new is worse than old: its accuracy is {-less.value:.3f} lower "
        f"(95 % interval {-less.high:.3f} to {-less.low:.3f})."
    )


def test_difference_that_may_be_chance_is_no_fault() -> None:
    card, _ = read_bundle(PRETRAINED)
    other = predictions_of(TRUTH, 2.0, noise=2)
    differences = paired_differences(GOOD, other)
    assert all(one.low < 0 < one.high for one in both(differences))
    assert worse_metrics(differences, card, card) == []


def test_intervals_are_paired() -> None:
    """A classifier that errs on the same images is compared more sharply than an unrelated one."""
    nearly = replace(GOOD, probabilities=GOOD.probabilities.copy())
    nearly.probabilities[:3] = np.roll(nearly.probabilities[:3], 1, axis=1)
    alone = metrics_of(GOOD).accuracy
    paired = paired_differences(nearly, GOOD).accuracy
    assert paired.high - paired.low < (alone.high - alone.low) / 2
    for one in both(paired_differences(GOOD, GOOD)):
        assert (one.value, one.low, one.high) == (0, 0, 0)


def test_images_whose_answer_changes_are_named(
    found: dict[str, Any], bundle: Path, data: Path
) -> None:
    images = in_split(read_manifest(data), Split.TEST)
    predictor = Predictor.load(bundle)
    said = predictor.predict_batch(load_images(images, 32, title="").images)
    by_name = {image.path.name: answer for image, answer in zip(images, said, strict=True)}
    assert 0 < len(found["changed"]) <= 30
    for row in found["changed"]:
        assert (data / row["image"]).is_file()
        answer = by_name[row["image"]]
        assert row["candidate"] == {
            "label": answer.label,
            "decision": answer.decision,
            "probability": pytest.approx(max(answer.probabilities.values()), abs=1e-6),
        }
        sides = row["candidate"], row["reference"]
        assert any(sides[0][key] != sides[1][key] for key in ("label", "decision"))


@pytest.fixture(scope="module")
def checked(bundle: Path, data: Path) -> Callable[[ModelCard], tuple[bool | None, list[str]]]:
    """Checks a card against the answers of the tiny classifier."""
    predictor = Predictor.load(bundle)
    images = in_split(read_manifest(data), Split.TEST)
    answers = predict_images(predictor, load_images(images, 32, title=""))
    return lambda card: check_card(card, images, answers)


def with_metrics(card: ModelCard, **changes: Any) -> ModelCard:
    return card.model_copy(update={"metrics": card.metrics.model_copy(update=changes)})


def test_card_that_gives_other_metrics_is_named(
    bundle: Path, checked: Callable[[ModelCard], tuple[bool | None, list[str]]]
) -> None:
    card = read_bundle(bundle)[0]
    accuracy = card.metrics.accuracy
    found = accuracy.value

    def told(value: float) -> ModelCard:
        return with_metrics(card, accuracy=replace(accuracy, value=value))

    assert checked(card) == (True, [])
    assert checked(read_bundle(PRETRAINED)[0]) == (None, [])
    assert checked(told(found - CARD_TOLERANCE / 2)) == (True, [])
    assert checked(told(found + 0.01)) == (
        False,
        [
            f"Its card states {found + 0.01:.6f} for the accuracy, and it reaches {found:.6f} on "
            "the test images of the card."
        ],
    )
    assert "states no value for the accuracy" in checked(told(float("nan")))[1][0]
    recalls = {
        label: own.model_copy(update={"recall": 1.5})
        for label, own in card.metrics.per_class.items()
    }
    reproduced, faults = checked(with_metrics(card, per_class=recalls))
    assert reproduced is False
    assert [label in fault for label, fault in zip(LABELS, faults, strict=True)] == [True] * 3
    silent = card.model_copy(update={"metrics": EvaluationMetrics.unmeasured()})
    assert len(checked(silent)[1]) == 5


def test_card_without_a_source_is_checked_on_the_others(
    bundle: Path, data: Path, checked: Callable[[ModelCard], tuple[bool | None, list[str]]]
) -> None:
    """Its metrics are those of the test images of the sources that it has seen."""
    card = read_bundle(bundle)[0]
    images = [
        image for image in in_split(read_manifest(data), Split.TEST) if image.source == "north"
    ]
    answers = predict_images(Predictor.load(bundle), load_images(images, 32, title=""))
    north = {"north": dict.fromkeys(LABELS, 5)}
    changes = {
        "by_source": card.data.by_source | {"test": north},
        "patients": card.data.patients | {"test": len({image.patient for image in images})},
    }
    seen = card.data.model_copy(update=changes)
    right = float(np.mean(answers.probabilities.argmax(axis=1) == answers.truth))
    wrong = with_metrics(card, accuracy=replace(card.metrics.accuracy, value=right + 0.25))
    left_out = replace(card.options, leave_out="south")
    without = wrong.model_copy(update={"options": left_out, "data": seen})
    assert left_out_images(without, read_manifest(data), "south")
    reproduced, faults = checked(without)
    assert reproduced is False
    assert faults[0] == (
        f"Its card states {right + 0.25:.6f} for the accuracy, and it reaches {right:.6f} on the "
        "test images of the card."
    )
    assert checked(without.model_copy(update={"options": card.options}))[0] is None
    unknown = TrainingData(images={}, patients={}, by_source={}, split="")
    assert checked(card.model_copy(update={"data": unknown}))[0] is None


def test_command_writes_the_comparison_and_says_it(
    told: tuple[str, Path], found: dict[str, Any]
) -> None:
    shown, out = told
    for words in (
        "30 test images of 15 patients",
        f"changed predictions: {len(found['changed'])}",
        f"Comparison: {'passed' if found['passed'] else 'failed'}",
        *(fault[:60] for fault in found["faults"]),
    ):
        assert words in shown
    assert found["card_reproduced"] is True
    assert "was measured on other images" not in shown
    assert [path.name for path in out.iterdir()] == ["comparison.json"]


def test_synthetic_images_measure_nothing(data: Path, bundle: Path, tmp_path: Path) -> None:
    made = write_synthetic(tmp_path / "made", {"covid": 40})
    predictor = Predictor.load(bundle)
    with pytest.raises(DataError, match="has no test image"):
        compare_classifiers(predictor, predictor, made)
    assert (bundle / CARD).is_file()
