"""GANs compared in a tiny world: nothing is trained twice, and a failure has its own row."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ml.commands import gan_evaluation as measuring_cli
from ml.commands.main import app
from ml.data.manifest import ImageRecord, in_split
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, Diverged, XrayError
from ml.gan.evaluation import compare as module
from ml.gan.evaluation import comparison as contract
from ml.gan.evaluation.compare import compare_gans, write_gan_comparison
from ml.gan.evaluation.comparison import ComparisonOptions, ComparisonRun, GanComparison
from ml.gan.evaluation.evaluate import evaluate_gan
from ml.gan.generator_file import load_generator
from ml.gan.training import train_gan
from ml.options.gan import GAN_PRESETS, GanOptions
from ml.reporting.gan_report import render_comparison
from ml.reporting.gan_tables import comparison_markdown, metric_tables, model_table
from tests.ml.evaluation.test_evaluation import Page
from tests.support.gan_world import CPU, SIDE, pixel_space, tiny, write_images

IMAGES = {Split.TRAIN: 24, Split.VALIDATION: 6, Split.TEST: 18}
QUICK = {
    "steps": 4, "evaluation_interval": 2, "critic_steps": 1, "batch_size": 8, "latent": 8,
    "width": 2, "min_diversity": 0.0,
}  # fmt: skip
OPTIONS = ComparisonOptions(
    size=SIDE, budget_minutes=5, presets=("gan", "resnet"), samples=20, changes=QUICK
)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    return write_images(tmp_path_factory.mktemp("images"), IMAGES)


def compare(
    records: list[ImageRecord], out: Path, options: ComparisonOptions, **more: Any
) -> GanComparison:
    return compare_gans(
        records, out, options, device=CPU, features=[pixel_space()], quiet=True, **more
    )


@pytest.fixture(scope="module")
def folder(records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison."""
    out = tmp_path_factory.mktemp("comparison")
    compare(records, out, OPTIONS)
    return out


@pytest.fixture
def comparison(folder: Path) -> GanComparison:
    return GanComparison.from_json((folder / "comparison.json").read_text())


def test_every_preset_is_trained_and_measured(
    comparison: GanComparison, folder: Path, records: list[ImageRecord]
) -> None:
    assert [model.preset for model in comparison.models] == ["gan", "resnet"]
    for model in comparison.models:
        assert (model.verdict, model.problem) == ("finished", "")
        assert [row["step"] for row in model.rows] == [2, 4]
        assert model.options["steps"] == 4
        assert model.grid is not None
        assert (folder / model.grid).read_bytes().startswith(b"\x89PNG")
        loaded = load_generator(folder / model.preset / "seed-0" / "generator.safetensors")
        alone = evaluate_gan(loaded, records, features=[pixel_space()], samples=20, quiet=True)
        assert model.evaluation is not None
        assert model.evaluation.as_json() == alone.as_json()
    assert comparison.models[0].options["network"] == GAN_PRESETS["gan"].network


def test_the_same_command_trains_nothing_again(
    comparison: GanComparison,
    folder: Path,
    records: list[ImageRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a finished model is trained or measured again")

    monkeypatch.setattr(module, "train_gan", refuse)
    monkeypatch.setattr(module, "read_real_images", refuse)
    assert compare(records, folder, OPTIONS).as_json() == comparison.as_json()


def test_a_seed_can_be_added_and_another_budget_cannot(
    comparison: GanComparison, folder: Path, records: list[ImageRecord]
) -> None:
    wider = replace(OPTIONS, presets=("resnet",), seeds=2)
    found = compare(records, folder, wider)
    assert found.models[0].as_json() == comparison.models[1].as_json()
    assert found.models[1].options["seed"] == 1
    (_, rows) = metric_tables(found)["pixels (000000000000)"]
    assert [row[0] for row in rows] == ["real images", "resnet"]
    kids = [
        model.evaluation.spaces[0].kid.value
        for model in found.models
        if model.evaluation and model.evaluation.spaces[0].kid
    ]
    assert rows[1][1].startswith(f"{sum(kids) / 2:.3f}"[:4])
    assert "±" in rows[1][1]
    assert [row[0] for row in model_table(found)[1]] == ["resnet, seed 0", "resnet, seed 1"]
    for changed in (replace(OPTIONS, budget_minutes=6), replace(OPTIONS, samples=30)):
        with pytest.raises(CheckpointError, match="a comparison with other settings"):
            compare(records, folder, changed)
    with pytest.raises(CheckpointError, match="images_sha256"):
        compare(records[:-1], folder, OPTIONS)
    write_gan_comparison(folder, comparison)


def failing(at: str) -> Callable[..., Path]:
    """Training that diverges at once with these networks."""

    def train(records: Any, out: Path, options: GanOptions, **more: Any) -> Path:
        if options.network == at:
            raise Diverged("training diverged by step 3: penalty became infinite. Advice follows")
        return train_gan(records, out, options, **more)

    return train


def test_a_preset_that_diverges_is_a_result(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "train_gan", failing("mlp"))
    (tmp_path / "gan" / "seed-0").mkdir(parents=True)
    found = compare(records, tmp_path, OPTIONS)
    failed, finished = found.models
    assert failed.verdict == "diverged"
    assert failed.problem == "training diverged by step 3: penalty became infinite"
    assert failed.evaluation is failed.grid is None
    assert finished.verdict == "finished"
    html = (tmp_path / "comparison.html").read_text()
    assert "No generator" in html
    assert "penalty became infinite" in html
    text = (tmp_path / "comparison.md").read_text()
    assert "| gan | diverged | 0 |" in text
    assert "| gan | none |" in text
    assert "- gan: training diverged by step 3" in text


def test_a_training_that_really_diverges_spoils_no_other(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    wild = {"critic_learning_rate": 1e30, "generator_learning_rate": 1e30}
    options = replace(OPTIONS, presets=("r3gan", "resnet"), changes_of={"r3gan": wild})
    verdicts = [one.verdict for one in compare(records, tmp_path, options).models]
    assert verdicts == ["diverged", "finished"]


def test_a_model_that_collapses_shows_its_best_generator(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.gan.monitor.diversity", lambda *_: 0.01)
    changes = QUICK | {"evaluation_interval": 1, "min_diversity": 0.1}
    options = replace(OPTIONS, presets=("resnet",), changes=changes)
    (model,) = compare(records, tmp_path, options).models
    assert model.verdict == "collapsed"
    assert model.problem.startswith("The generator collapsed: at step 3")
    assert model.evaluation is not None
    assert model.evaluation.generator.step in (1, 2)
    assert model.grid is not None
    assert (tmp_path / model.grid).is_file()


def test_a_comparison_that_is_stopped_goes_on(records: list[ImageRecord], tmp_path: Path) -> None:
    ticks: list[tuple[str, int, float]] = []

    def on_tick(preset: str, seed: int, row: dict[str, float]) -> None:
        ticks.append((preset, seed, row["step"]))

    first = compare(
        records, tmp_path, OPTIONS, on_tick=on_tick, should_stop=lambda: len(ticks) == 3
    )
    assert [model.preset for model in first.models] == ["gan"]
    assert ticks == [("gan", 0, 2), ("gan", 0, 4), ("resnet", 0, 2)]
    second = compare(records, tmp_path, OPTIONS, on_tick=on_tick)
    assert ticks[3:] == [("resnet", 0, 4)]
    assert [model.preset for model in second.models] == ["gan", "resnet"]
    assert second.models[0].as_json() == first.models[0].as_json()


def test_ticks_follow_the_pace_of_the_machine(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIAL_SECONDS", 0.0)
    pace = module.seconds_per_step(tiny("resnet"), CPU)
    assert 0 < pace < 10
    monkeypatch.setattr(module, "seconds_per_step", lambda *_: 1.5)
    free = {key: value for key, value in QUICK.items() if key != "evaluation_interval"}
    options = replace(OPTIONS, presets=("resnet",), budget_minutes=4, changes=free)
    (model,) = compare(records, tmp_path, options).models
    # 240 seconds, four ticks, 40 steps of 1.5 seconds each.
    begun = json.loads((tmp_path / "resnet" / "seed-0" / "options.json").read_text())
    assert begun["options"]["evaluation_interval"] == 40
    assert "evaluation_interval" not in model.options
    # Another pace makes it no other comparison, and a training that was begun keeps its ticks.
    monkeypatch.setattr(module, "seconds_per_step", lambda *_: 0.1)
    (tmp_path / "resnet" / "seed-0" / "result.json").unlink()
    assert compare(records, tmp_path, options).models[0].rows == model.rows


def test_images_that_are_too_few_cost_no_training(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "train_gan", failing("mlp"))
    few = [record for record in records if record not in in_split(records, Split.TEST)]
    with pytest.raises(DataError, match="test split has 0"):
        compare(few, tmp_path, OPTIONS)
    assert not list(tmp_path.rglob("options.json"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"presets": ("gan", "stylegan")}, r"stylegan\. Give some of gan, dcgan"),
        ({"presets": ()}, "Unknown preset"),
        ({"seeds": 0}, "nothing is trained"),
        ({"budget_minutes": 0.0}, "nothing is trained"),
        ({"budget_minutes": math.nan}, "nothing is trained"),
        ({"labels": "Flu"}, "--labels 'Flu'"),
        ({"changes_of": {"gan": {"size": 32}}}, "at the same size"),
        (
            {"changes": QUICK | {"batch_size": 1}},
            "batch_size: Expected a whole number of 2 or more",
        ),
    ],
)
def test_options_that_make_no_comparison(
    changes: dict[str, Any], message: str, records: list[ImageRecord], tmp_path: Path
) -> None:
    with pytest.raises(XrayError, match=message):
        compare(records, tmp_path, replace(OPTIONS, **changes))


def test_page_shows_every_model_and_no_real_image(comparison: GanComparison, folder: Path) -> None:
    html = (folder / "comparison.html").read_text()
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "use"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    # A grid of samples for each model, and nothing else.
    assert len(sources) == 2
    assert all(str(source).startswith("data:image/png;base64,") for source in sources)
    assert "Real images are not shown" in html
    for model in comparison.models:
        assert f"<strong>{model.preset}</strong>" in html
    for _, rows in metric_tables(comparison).values():
        assert all(cell in html for row in rows for cell in row)
    assert {"KID over minutes of training", "KID over images seen"} < set(page.charts)
    assert (folder / "comparison.md").read_text() == comparison_markdown(comparison)


def test_names_on_the_page_are_text(comparison: GanComparison) -> None:
    evil = "<script>"
    values: dict[str, Any] = json.loads(comparison.to_json())
    values["device"] = values["options"]["labels"] = evil
    for model in values["models"]:
        model |= {"preset": evil, "problem": evil, "grid": None}
        model["evaluation"]["spaces"][0]["name"] = evil
        model["evaluation"]["notes"] = [evil]
    assert "<script" not in render_comparison(GanComparison.from_values(values), {})


def test_command_compares(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {preset: tiny(preset) for preset in ("gan", "resnet")}
    monkeypatch.setattr(contract, "GAN_PRESETS", quick)
    monkeypatch.setattr(contract, "ENDLESS", 2)
    monkeypatch.setattr(module, "seconds_per_step", lambda *_: 10.0)
    monkeypatch.setattr(measuring_cli, "spaces_named", lambda *_: [pixel_space()])
    monkeypatch.setattr(measuring_cli, "read_manifest", lambda _: records)
    arguments = [
        "compare", "gans", "--data", "x", "--out", str(tmp_path), "--size", "16", "--device", "cpu",
        "--budget-minutes", "1", "--presets", "resnet", "--samples", "20",
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "resnet, seed 0, step 2: KID" in done.output
    assert "comparison.html" in done.output
    assert (tmp_path / "comparison.md").is_file()
    wrong = [*arguments[:-3], "guess", *arguments[-2:]]
    with pytest.raises(XrayError, match="Unknown preset"):
        CliRunner().invoke(app, wrong, catch_exceptions=False)


def test_a_run_has_a_folder_of_its_own() -> None:
    assert ComparisonRun("wgan-gp", 2).folder == Path("wgan-gp") / "seed-2"
