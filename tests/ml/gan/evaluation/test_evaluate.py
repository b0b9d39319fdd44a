"""A generator's metrics: equal to the measures themselves, whole, and honest on a page."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape
from typer.testing import CliRunner

from ml.commands import gan_evaluation as measuring_cli
from ml.commands.main import app
from ml.data.manifest import COLUMNS, ImageRecord
from ml.data.splits import Split
from ml.errors import DataError, XrayError
from ml.gan.evaluation.evaluate import FIRST_SEED, evaluate_gan, measure_generator
from ml.gan.evaluation.features import FeatureSpace
from ml.gan.evaluation.fid import fid
from ml.gan.evaluation.kid import kid
from ml.gan.evaluation.measured_generator import MeasuredGenerator
from ml.gan.evaluation.memorisation import copying_statistic, nearest_percentiles
from ml.gan.evaluation.precision_recall import manifold
from ml.gan.evaluation.real_floor import real_floor
from ml.gan.evaluation.real_images import RealImages, read_real_images
from ml.gan.evaluation.train_synthetic_test_real import LabelledPoints, probe_auroc
from ml.gan.generator_file import GENERATOR, LoadedGenerator
from ml.gan.sampling import sample_images
from ml.reporting.gan_report import draw_sheet, render_evaluation
from ml.reporting.gan_tables import METRIC_COLUMNS, significant, space_rows
from tests.ml.evaluation.test_evaluation import Page
from tests.support.gan_world import (
    LABELS,
    SIDE,
    pixel_space,
    tiny,
    untrained,
    write_images,
)

SAMPLES = 40
IMAGES = {Split.TRAIN: 24, Split.VALIDATION: 6, Split.TEST: 18}
ROWS = [
    {"step": 2 * n, "images": 20 * n, "seconds": 3.0 * n, "kid": 1 / n, "diversity": 0.9,
     "wasserstein": 0.5 * n, "critic_loss": -0.5 * n, "generator_loss": 1.0, "penalty": None,
     "images_per_second": 9.5}
    for n in (1, 2, 3)
]  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    return write_images(tmp_path_factory.mktemp("images"), IMAGES)


@pytest.fixture(scope="module")
def conditional(
    records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory
) -> LoadedGenerator:
    options = tiny("resnet", labels="normal,covid", conditional=True)
    return untrained(tmp_path_factory.mktemp("generator") / GENERATOR, records, options)


@pytest.fixture(scope="module")
def real(records: list[ImageRecord]) -> RealImages:
    return read_real_images(
        records, ("normal", "covid"), SIDE, features=[pixel_space()], samples=SAMPLES,
        by_class=True, quiet=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def evaluation(real: RealImages, conditional: LoadedGenerator) -> MeasuredGenerator:
    return measure_generator(conditional, real, quiet=True)


def numbers_in(values: Any) -> Iterator[float]:
    match values:
        case dict():
            for inner in values.values():
                yield from numbers_in(inner)
        case list():
            for inner in values:
                yield from numbers_in(inner)
        case float() | int():
            yield values


def test_every_metric_is_there_and_finite(evaluation: MeasuredGenerator) -> None:
    values = evaluation.as_json()
    assert MeasuredGenerator.from_json(evaluation.to_json()).as_json() == values
    assert all(math.isfinite(number) for number in numbers_in(values))
    (space,) = evaluation.spaces
    assert (space.name, space.sha256) == ("pixels", "0" * 64)
    for metric in METRIC_COLUMNS:
        if "worst" in metric.name:
            continue  # so few images fill no cell
        assert metric.of_samples(space) is not None, metric.name
        assert metric.of_real(space) is not None, metric.name
    assert set(space.per_class) == set(LABELS)
    for own in space.per_class.values():
        assert own is not None
        assert own.kid is not None
        assert own.fid is not None
        assert own.floor is not None
        assert own.kid.real == own.fid.n == IMAGES[Split.TEST]
        assert own.ratio == pytest.approx(own.floor.fid / own.fid.value)
    assert evaluation.real.classes == dict.fromkeys(LABELS, IMAGES[Split.TEST])
    assert sum(evaluation.samples.classes.values()) == SAMPLES
    assert evaluation.real.held_out_images == 48
    assert evaluation.notes == ["Only 36 test images, so all metrics are rough."]


def test_metrics_equal_the_measures_themselves(
    evaluation: MeasuredGenerator, real: RealImages, conditional: LoadedGenerator
) -> None:
    seeds = range(FIRST_SEED, FIRST_SEED + SAMPLES)
    images = sample_images(conditional.network, seeds, real.classes.tolist(), length=8)
    space = pixel_space()
    points, everything = space.embed(images), space.embed(real.images.images)
    test, patients = everything[real.test], real.images.patients
    found = evaluation.spaces[0].as_json()

    expected = kid(test, points, patients=patients[real.test])
    assert found["kid"]["value"] == expected.value
    assert (found["kid"]["low"], found["kid"]["high"]) == (expected.low, expected.high)
    distance = fid(test, points, patients=patients[real.test])
    assert (found["fid"]["value"], found["fid"]["n"]) == (distance.value, 36)
    floor = real_floor(everything, patients, 36)
    assert found["ratio"] == floor.ratio(distance)

    normal = real.classes == 0
    of_normal = test[real.numbers[real.test] == 0]
    by_class = manifold(of_normal, points[normal][: len(of_normal)])
    # All of the class's test images, and of the samples some that are drawn at random.
    assert found["per_class"]["normal"]["manifold"]["real"] == by_class.real

    training = everything[real.training]
    mirrored = space.embed(real.images.images[real.training][:, :, ::-1])
    known = np.concatenate([training, mirrored])
    nearest = np.linalg.norm(points[:, None] - known, axis=2).min(axis=1)
    held_out = np.linalg.norm(everything[~real.training][:, None] - known, axis=2).min(axis=1)
    memorisation = found["memorisation"]
    assert memorisation["copying"] == pytest.approx(copying_statistic(nearest, held_out))
    percentiles = nearest_percentiles(nearest, held_out)
    assert memorisation["percentiles"]["median"] == np.median(percentiles)

    answer = probe_auroc(
        LabelledPoints(points, real.classes),
        LabelledPoints(test, real.numbers[real.test]),
        patients[real.test],
        name="synthetic",
    )
    assert found["probe"]["synthetic"]["value"] == answer.value
    # The two classes of this world are easily told apart by real images.
    assert found["probe"]["real"]["value"] == 1.0


def test_a_generator_that_copies_is_found(
    real: RealImages, conditional: LoadedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = real.images.images[real.training]
    mirrored = np.concatenate([training[:20], training[20:40, :, ::-1]])
    monkeypatch.setattr("ml.gan.evaluation.evaluate.sample_images", lambda *_args, **_kw: mirrored)
    found = measure_generator(conditional, real, quiet=True)
    assert found.pixels.exact_copies == SAMPLES
    assert found.pixels.near_copies == SAMPLES
    memorisation = found.spaces[0].memorisation
    assert memorisation.suspicious == 1.0
    assert memorisation.percentiles["median"] == 0.0
    assert memorisation.copying < -3


def test_an_unconditional_generator_has_no_classes_of_its_own(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    loaded = untrained(tmp_path / GENERATOR, records, tiny("resnet", labels="covid,normal"))
    other = replace(loaded, card=loaded.card.model_copy(update={"images_sha256": "other"}))
    found = evaluate_gan(other, records, features=[pixel_space()], samples=20, quiet=True)
    assert found.spaces[0].per_class == {}
    assert found.spaces[0].probe is None
    assert found.samples.classes == {}
    assert len(found.notes) == 3
    assert "trained on other images" in found.notes[1]
    assert "18 covid, 18 normal" in found.notes[2]


def test_too_few_images_and_images_that_are_too_small_are_told(
    records: list[ImageRecord],
) -> None:
    with pytest.raises(DataError, match=r"train split has 0 images of covid with 80 px"):
        read_real_images(records, ("covid",), 80, features=[], quiet=True)
    with pytest.raises(DataError, match=r"at least \d+ samples, not 2"):
        read_real_images(records, ("covid",), SIDE, features=[], samples=2, quiet=True)


def test_samples_have_the_mix_of_the_test_images(records: list[ImageRecord]) -> None:
    fewer = [r for r in records if r.label == "covid"]
    fewer += [r for r in records if r.label == "normal"][::3]
    real = read_real_images(
        fewer, LABELS, SIDE, features=[], samples=400, by_class=True, quiet=True
    )
    share = (real.numbers[real.test] == 1).mean()
    assert (real.classes == 1).mean() == pytest.approx(share, abs=0.02)
    chosen = real.like_samples()
    assert real.training[chosen].all()
    assert len(set(chosen.tolist())) == len(chosen)


# --- page and command --------------------------------------------------------------------------


def test_page_shows_every_metric_and_needs_nothing(
    evaluation: MeasuredGenerator, conditional: LoadedGenerator
) -> None:
    html = render_evaluation(evaluation, draw_sheet(conditional), ROWS)
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "use"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    assert len(sources) == 1
    assert str(sources[0]).startswith("data:image/png;base64,")
    for row in space_rows(evaluation.spaces[0]):
        assert escape(row.meaning) in html
        assert row.value in html
    assert conditional.sha256 in html
    assert {"KID over minutes of training", "KID over images seen"} < set(page.charts)
    assert "Wasserstein estimate and critic loss" in page.charts


def test_names_on_the_page_are_text(
    evaluation: MeasuredGenerator, conditional: LoadedGenerator
) -> None:
    space = evaluation.spaces[0].model_copy(update={"name": "<script>"})
    changes = {"spaces": [space], "notes": ["<script>"]}
    hostile = evaluation.model_copy(update=changes)
    assert "<script" not in render_evaluation(hostile, draw_sheet(conditional))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "not defined"), (0.0, "0"), (-1e-9, "0"), (0.012345, "0.0123"), (512.4, "512"),
     (-3.14159, "-3.14")],
)  # fmt: skip
def test_three_digits_count(value: float | None, text: str) -> None:
    assert significant(value) == text


@pytest.fixture
def data(records: list[ImageRecord]) -> Path:
    folder = records[0].path.parent
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for record in records:
            row = {"image": record.path.name, "label": record.label}
            writer.writerow(row | {"source": record.source, "patient": record.patient})
    return folder


@pytest.fixture
def cheap_features(monkeypatch: pytest.MonkeyPatch) -> None:
    def spaces(*_: object) -> list[FeatureSpace]:
        return [pixel_space()]

    monkeypatch.setattr(measuring_cli, "spaces_named", spaces)


@pytest.mark.usefixtures("cheap_features")
def test_command_writes_metrics_and_report(
    data: Path, records: list[ImageRecord], tmp_path: Path
) -> None:
    untrained(tmp_path / GENERATOR, records, tiny("resnet"))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    out = tmp_path / "out"
    arguments = [
        "evaluate",
        "gan",
        "--data",
        data,
        "--run",
        tmp_path,
        "--samples",
        20,
        "--out",
        out,
    ]
    done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "KID" in done.output
    assert "against 18 test images of 18 patients" in done.output
    found = json.loads((out / "metrics.json").read_text())
    assert found["training"] == ROWS
    assert "Training" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--generator", "a", "--run", "b"], "not both"),
        (["--generator", "none.safetensors"], "no generator at none.safetensors"),
        (["--run", "none"], "no generator at none"),
        (["--features", "guess"], "Unknown feature space 'guess'"),
        (["--features", ","], "--features is empty"),
        (["--features", "inception"], "nception"),
    ],
)
def test_mistakes_of_the_command_are_told_in_a_line(
    arguments: list[str], message: str, data: Path, records: list[ImageRecord], tmp_path: Path
) -> None:
    if "--features" in arguments:
        untrained(tmp_path / GENERATOR, records, tiny("resnet"))
        arguments = ["--run", str(tmp_path), *arguments]
    with pytest.raises(XrayError, match=message):
        CliRunner().invoke(
            app, ["evaluate", "gan", "--data", str(data), *arguments], catch_exceptions=False
        )
