"""Three conditions in a tiny world: what each learns from, what is claimed, and how it resumes."""

import json
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from ml.classifier.trained_run import load_run
from ml.classifier.training import infer
from ml.data.loading import ImageSet, load_images
from ml.data.manifest import ImageRecord, in_split, read_manifest, read_synthetic_manifest
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError
from ml.evaluation import ablation, ablation_statistics
from ml.evaluation.ablation import TRAININGS, compare_conditions
from ml.evaluation.ablation_result import AblationResult
from ml.evaluation.ablation_setting import CONDITIONS, AblationSetting
from ml.evaluation.ablation_statistics import effect_sentence, measure_conditions, verdict
from ml.evaluation.augmented_copies import RECIPE, plan_copies, write_copies
from ml.evaluation.comparison_report import MetricDifferences
from ml.evaluation.metrics import Interval, softmax
from ml.labels import LABELS
from ml.options.classifier import AblationOptions
from ml.reporting.ablation_report import render_conditions
from tests.ml.evaluation.test_evaluation import Page
from tests.support.classifier_world import (
    GENERATOR,
    QUICK,
    SIDE,
    tiny_network,
    write_data,
    write_synthetic,
    xray,
)
from tests.support.gan_world import CPU, one_thread

__all__ = ["one_thread", "tiny_network"]  # fixtures that all tests here use
MADE = {"covid": 7, "normal": 3}
OPTIONS = AblationOptions(
    network="report-cnn",
    epochs=2,
    small_epochs=0,
    batch_size=16,
    learning_rate=0.05,
    ema_decay=0.6,
    seeds=2,
    leave_out="south",
)
FLAGS = (*QUICK, "--seeds", 2, "--leave-out", "south")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set of two sources, and synthetic images."""
    folder = tmp_path_factory.mktemp("world")
    images = {Split.TRAIN: 8, Split.VALIDATION: 4, Split.TEST: 6}
    data = write_data(folder / "set", images, sources=("north", "south"))
    return data, write_synthetic(folder / "made", MADE)


@pytest.fixture(scope="module")
def learned_from() -> dict[str, list[ImageRecord]]:
    """What each training was given, by its folder's name; filled by the run below."""
    return {}


@pytest.fixture(scope="module")
def out(
    world: tuple[Path, Path],
    learned_from: dict[str, list[ImageRecord]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """All trainings, one of which was stopped in the middle and resumed."""
    folder = tmp_path_factory.mktemp("conditions") / "out"
    train, calls = ablation.train_classifier, 0

    def stopped_once(records: list[ImageRecord], place: Path, *rest: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        learned_from[place.name] = list(records)
        if calls == 4:
            signal.raise_signal(signal.SIGTERM)
        return train(records, place, *rest, **named)

    command = (
        "compare",
        "conditions",
        "--data",
        world[0],
        "--synthetic",
        world[1],
        "--out",
        folder,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "train_classifier", stopped_once)
        stopped = xray(*command, *FLAGS)
        assert stopped.exit_code == 143, stopped.output
        assert "Run the same command again to resume" in stopped.stderr
        assert not (folder / "conditions.json").exists()
        assert len(rows_of(folder)) == 3
        done = xray(*command, *FLAGS)
    assert done.exit_code == 0, done.output
    # Three were over already.
    assert calls == 4 + 9
    assert "real and synthetic images" in done.stdout
    assert f"wrote {folder / 'conditions.json'} and {folder / 'conditions.html'}" in done.stdout
    return folder


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def result(out: Path) -> AblationResult:
    return AblationResult.from_json((out / "conditions.json").read_bytes())


def test_each_condition_learns_from_what_it_is_named_after(
    out: Path, world: tuple[Path, Path], learned_from: dict[str, list[ImageRecord]]
) -> None:
    real = {image.path for image in read_manifest(world[0])}
    for setting in ("test", "without-south"):
        by_condition = {
            condition: learned_from[f"{setting}-{condition}-0"] for condition in CONDITIONS
        }
        extra = {
            condition: [image for image in images if image.path not in real]
            for condition, images in by_condition.items()
        }
        assert all(real <= {image.path for image in images} for images in by_condition.values())
        assert extra["real"] == []
        for condition, maker in (("augmented", RECIPE), ("synthetic", GENERATOR)):
            assert Counter(image.label for image in extra[condition]) == MADE
            assert {image.synthetic for image in extra[condition]} == {maker}
        # A copy is of a training image, and of none that is measured on.
        assert {image.split for image in extra["augmented"]} == {Split.TRAIN}
        sources = {image.source for image in extra["augmented"]}
        assert sources == ({"north"} if setting == "without-south" else {"north", "south"})
        patients = {image.patient for image in in_split(read_manifest(world[0]), Split.TRAIN)}
        assert {image.patient for image in extra["augmented"]} <= patients
    assert not (out / "copies").exists()


def test_copies_are_changed_images_of_their_class(world: tuple[Path, Path], tmp_path: Path) -> None:
    real, made = read_manifest(world[0]), read_synthetic_manifest(world[1])
    setting = AblationSetting(
        "", [*real, *made], ImageSet([], np.empty((0, SIDE, SIDE)), np.empty(0))
    )
    pairs = plan_copies(setting, tmp_path / "copies", seed=3)
    write_copies(pairs, SIDE, seed=3)
    for image, copy in pairs:
        assert (image.label, image.patient, image.source) == (copy.label, copy.patient, copy.source)
        one, other = (load_images([each], SIDE, title="").images[0] for each in (image, copy))
        assert one.shape == other.shape
        assert not np.array_equal(one, other)
    before = [copy.path.read_bytes() for _, copy in pairs]
    pairs[0][1].path.unlink()
    write_copies(pairs, SIDE, seed=3)
    assert [copy.path.read_bytes() for _, copy in pairs] == before


def test_trainings_differ_in_condition_seed_and_source_alone(out: Path) -> None:
    found = sorted(path.name for path in (out / TRAININGS).iterdir())
    settings = ("test", "without-south")
    assert found == sorted(
        f"{q}-{condition}-{n}" for q in settings for condition in CONDITIONS for n in (0, 1)
    )
    for name in found:
        options = load_run(out / TRAININGS / name).options
        source = "south" if name.startswith("without") else ""
        assert options == OPTIONS.training(int(name[-1]), source)
        assert not (out / TRAININGS / name / "checkpoint.pt").exists()


def test_progress_counts_the_trainings(out: Path) -> None:
    rows = rows_of(out)
    assert [(row["step"], row["of"]) for row in rows] == [(n, 12) for n in range(1, 13)]
    each = [
        json.loads((folder / "predictions.json").read_text())["metrics"]["seconds"]
        for folder in (out / TRAININGS).iterdir()
    ]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[-1] == pytest.approx(sum(each))
    assert {row["seed"] for row in rows} == {0, 1}


def test_metrics_are_means_over_the_trainings_on_the_same_images(
    out: Path, world: tuple[Path, Path], result: AblationResult
) -> None:
    records = read_manifest(world[0])
    of_south = [image for image in records if image.source == "south"]
    asked = {"test": in_split(records, Split.TEST), "without-south": of_south}
    assert [setting.name for setting in result.settings] == list(asked)
    for setting in result.settings:
        images = load_images(asked[setting.name], SIDE, title="")
        assert setting.images == len(images)
        assert setting.patients == len(set(images.patients.tolist()))
        for condition in CONDITIONS:
            areas = []
            for number in (0, 1):
                network = load_run(out / TRAININGS / f"{setting.name}-{condition}-{number}").network
                given = softmax(infer(network, images.images, CPU))
                areas.append(reference.roc_auc_score(images.labels, given, multi_class="ovr"))
            assert [row.macro_auroc for row in setting.trainings[condition]] == pytest.approx(areas)
            own = setting.conditions[condition]
            assert own.macro_auroc.value == pytest.approx(np.mean(areas))
            real = setting.conditions["real"].macro_auroc.value
            if condition != "real":
                less = own.differences.macro_auroc
                assert less.value == pytest.approx(np.mean(areas) - real)
    # What they learned from made them different classifiers.
    different = {row.macro_auroc for rows in setting.trainings.values() for row in rows}
    assert len(different) > 3
    assert [part.source for part in result.settings[0].sources] == ["north", "south"]
    assert sum(part.images for part in result.settings[0].sources) == 18
    assert result.settings[1].sources == []
    assert result.settings[0].learned.synthetic == {"pneumonia": 0, **MADE}
    assert len(result.sentences) == 4


def test_page_says_what_the_metrics_say(out: Path, result: AblationResult) -> None:
    html = (out / "conditions.html").read_text()
    assert html == render_conditions(result)
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    assert page.charts == ["macro AUROC of each training"] * 2
    for setting in result.settings:
        for own in setting.conditions.values():
            one = own.macro_auroc
            assert f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" in html
    for text in result.sentences:
        assert text in html
    assert "The generator may have" in html
    assert "demonstration" not in html
    demonstration = result.model_copy(update={"demonstration": True})
    assert "says anything\nabout patients" in render_conditions(demonstration)


def test_other_options_or_images_are_refused(out: Path, world: tuple[Path, Path]) -> None:
    real, made = read_manifest(world[0]), read_synthetic_manifest(world[1])
    with pytest.raises(CheckpointError, match="other options or images"):
        compare_conditions(real, made, out, replace(OPTIONS, batch_size=8), device=CPU)
    with pytest.raises(CheckpointError, match="other options or images"):
        compare_conditions(real, made[1:], out, OPTIONS, device=CPU)
    with pytest.raises(DataError, match="Cannot leave out 'west'"):
        compare_conditions(real, made, out, replace(OPTIONS, leave_out="west"), device=CPU)
    with pytest.raises(DataError, match="All synthetic images are near-duplicates"):
        compare_conditions(real, [], out, OPTIONS, device=CPU)


def answers(truth: Any, skills: list[float], *, noise: int) -> NDArray[np.float64]:
    """(S, N, 3): a training for each skill."""
    random = np.random.default_rng(noise)
    return np.stack(
        [
            softmax(random.normal(size=(len(truth), 3)) + skill * np.eye(3)[truth])
            for skill in skills
        ]
    )


TRUTH = np.random.default_rng(0).integers(3, size=240)
PATIENTS = np.array([f"p{number // 2}" for number in range(240)])


def test_effect_is_found_where_there_is_one_and_not_where_chance_rules() -> None:
    by_condition = {
        "real": answers(TRUTH, [1.0, 1.0, 1.0], noise=1),
        "augmented": answers(TRUTH, [1.0, 1.0, 1.0], noise=2),
        "synthetic": answers(TRUTH, [2.5, 2.5, 2.5], noise=3),
    }
    found = measure_conditions(TRUTH, PATIENTS, by_condition)
    assert found["real"].differences is None
    assert verdict(found["synthetic"].differences.macro_auroc) == "helped"
    assert verdict(found["augmented"].differences.macro_auroc) == "made no difference"
    turned = measure_conditions(
        TRUTH,
        PATIENTS,
        by_condition | {"synthetic": by_condition["real"], "real": by_condition["synthetic"]},
    )
    assert verdict(turned["synthetic"].differences.macro_auroc) == "hurt"


def test_chance_in_training_widens_the_interval() -> None:
    """Trainings that differ much make an effect of the same size no finding."""
    real = answers(TRUTH, [1.0, 1.0, 1.0], noise=1)
    steady = measure_conditions(
        TRUTH, PATIENTS, {"real": real, "synthetic": answers(TRUTH, [1.8] * 3, noise=4)}
    )
    restless = measure_conditions(
        TRUTH, PATIENTS, {"real": real, "synthetic": answers(TRUTH, [0.3, 1.6, 3.5], noise=4)}
    )
    one, other = (each["synthetic"].differences.macro_auroc for each in (steady, restless))
    assert one.low > 0 > other.low
    assert other.high - other.low > 2 * (one.high - one.low)


def test_spread_of_the_draws_is_that_of_the_mean_of_the_trainings() -> None:
    """So few trainings, drawn as often as there are, would vary too little."""
    values = np.array([0.2, 0.5, 0.9])
    random = ablation_statistics._seed_draws(3)
    means = [values[next(random)].mean() for _ in range(20_000)]
    assert np.std(means) == pytest.approx(values.std(ddof=1) / np.sqrt(3), rel=0.03)


def test_sentences_claim_no_more_than_their_interval() -> None:
    images = [
        ImageRecord(Path(f"{n}.png"), LABELS[n % 3], "north", f"p{n // 2}") for n in range(12)
    ]
    shown = ImageSet(images, np.zeros((12, 4, 4), np.uint8), np.arange(12) % 3)
    asked, elsewhere = AblationSetting("", [], shown), AblationSetting("south", [], shown)

    def of(low: float, value: float, high: float, area: float | None = None) -> MetricDifferences:
        one = Interval(value, low, high, 12)
        other = one if area is None else Interval(area, area, area, 12)
        return MetricDifferences(accuracy=one, macro_auroc=other)

    assert effect_sentence("synthetic", of(0.003, 0.012, 0.02), asked, 3) == (
        "Synthetic images helped (macro AUROC +0.012 against real images alone, 95 % interval "
        "+0.003 "
        "to +0.020; 12 images of 6 patients, 3 seeds)."
    )
    assert effect_sentence("augmented", of(-0.03, -0.02, -0.01), elsewhere, 1) == (
        "Changed copies of real images on south, which nothing was learned from, hurt (macro AUROC "
        "-0.020 against real images alone, 95 % interval -0.030 to -0.010; chance in training is "
        "not in it; 12 images of 6 patients, 1 seed)."
    )
    assert effect_sentence("synthetic", of(-0.01, 0.0, 0.02), asked, 3) == (
        "Synthetic images made no difference that 12 images of 6 patients and 3 seeds can show "
        "(macro AUROC +0.000 against real images alone, 95 % interval -0.010 to +0.020)."
    )
    # Where images are of one class there is no AUROC.
    assert "(accuracy +0.012" in effect_sentence(
        "synthetic", of(0.0, 0.012, 0.02, np.nan), asked, 3
    )
