"""The commands of GANs: flags from options, orderly ends, mistakes in one line."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from pydantic import Field
from pydantic.dataclasses import dataclass
from typer.testing import CliRunner, Result

from ml.commands.gan import PRESET_WORDS
from ml.commands.main import app
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import ImageRecord, in_split, read_manifest
from ml.data.splits import Split
from ml.data.versioning import read_version, verify_version
from ml.errors import CheckpointError, DataError, XrayError
from ml.gan import training
from ml.gan.evaluation import features
from ml.gan.generator_file import GENERATOR, load_generator
from ml.gan.onnx_generator import GeneratorGraph
from ml.gan.synthesis.privacy_check import REFUSE_BELOW, PrivacyCheck, PrivacyChecker
from ml.option_fields import option_fields
from ml.options.gan import GAN_PRESETS, GanOptions
from ml.training.metrics_log import read_metrics
from ml.training.run_folder import CHECKPOINT
from tests.support import REPOSITORY
from tests.support.gan_world import (
    LABELS,
    SIDE,
    pixel_space,
    tiny,
    untrained,
    write_images,
)
from tests.support.images import png, synthetic_image

IMAGES = {Split.TRAIN: 12, Split.VALIDATION: 20, Split.TEST: 1}
# A run of three ticks that is over in a moment.
TINY = (
    *("--size", SIDE, "--latent", 8, "--batch-size", 8, "--labels", "covid,normal"),
    *("--steps", 6, "--evaluation-interval", 2, "--critic-steps", 1, "--min-diversity", 0),
    *("--preset", "resnet", "--width", 2, "--device", "cpu", "--conditional"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two classes."""
    folder = tmp_path_factory.mktemp("data")
    write_manifest(folder, write_images(folder, IMAGES))
    return folder


def write_manifest(folder: Path, records: Sequence[ImageRecord]) -> None:
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "source", "patient"))
        writer.writerows((r.path.name, r.label, r.source, r.patient) for r in records)


@pytest.fixture(autouse=True)
def cheap_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here waits for a network to look at images."""
    for module in (features, training):
        monkeypatch.setattr(module, "feature_space", lambda *_, **__: pixel_space())


def xray(*arguments: object) -> Result:
    """The command line in this process; one line for a mistake, as `main` prints it."""
    result = CliRunner(env={"COLUMNS": "200", "XRAY_DATA": None}).invoke(app, map(str, arguments))
    if result.exception and not isinstance(result.exception, SystemExit | XrayError):
        raise result.exception
    return result


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_generator(run / GENERATOR).network.state_dict()
    return state


def require_equal_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stopped."""
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "feature_space", lambda *_, **__: pixel_space())
        done = xray("train", "gan", "--data", data, "--out", out, *TINY)
    assert done.exit_code == 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("step ")]
    assert [line.split(":")[0] for line in lines] == ["step 2", "step 4", "step 6"]
    assert all("Wasserstein" in line and "images/s)" in line for line in lines)
    assert f"xray synthesize --generator {out / GENERATOR}" in done.stdout
    return out


def test_flags_come_from_the_options_and_only_typed_ones_arrive() -> None:
    @dataclass
    class Options:
        sides: int = Field(default=3, ge=1, le=9, description="How many sides.")
        round: bool = Field(default=False, description="No edge.")
        name: str = Field(default="x", description="A word.")
        share: float = Field(default=0.5, ge=0, le=1, description="A part.")

    seen: list[dict[str, Any]] = []
    small = typer.Typer()

    @small.command()
    @with_flags(Options, panel="Shape")
    def draw(where: str, **given: Any) -> None:
        """Draw a shape."""
        seen.append({"where": where, **given})

    def run(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "120"}).invoke(small, ["here", *arguments])

    assert run().exit_code == 0
    assert run("--no-round", "--share", "0", "--name", "", "--sides", "4").exit_code == 0
    assert run("--round").exit_code == 0
    assert seen == [
        {"where": "here"},
        {"where": "here", "round": False, "share": 0.0, "name": "", "sides": 4},
        {"where": "here", "round": True},
    ]
    for wrong in (("--sides", "10"), ("--sides", "0"), ("--share", "1.5"), ("--sides", "two")):
        refused = run(*wrong)
        assert refused.exit_code == 2
        assert wrong[0] in refused.stderr
    shown = run("--help").stdout
    for text in ("Draw a shape.", "Shape", "How many sides.", "1<=x<=9", "[default: (0.5)]"):
        assert text in shown


def test_every_option_is_a_flag_and_every_preset_is_listed() -> None:
    shown = xray("train", "gan", "--help").stdout
    for each in option_fields(GanOptions):
        assert f"--{each.name.replace('_', '-')} " in shown
        assert " ".join(each.help.split()[:3]) in shown
    assert "takes the preset's value" in shown
    listed = xray("train", "gan", "--presets")
    assert listed.exit_code == 0
    assert PRESET_WORDS.keys() == GAN_PRESETS.keys()
    assert all(words in listed.stdout for words in PRESET_WORDS.values())
    assert "--no-generator-norm" in listed.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_run_is_resumed_by_the_same_command(
    data: Path,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    status: int,
) -> None:
    draw_step = training.draw_step
    command = ("train", "gan", "--data", data, "--out", tmp_path, *TINY)

    def signal_in_step_two(*arguments: Any) -> Any:
        if arguments[2] == 2:
            signal.raise_signal(number)
        return draw_step(*arguments)

    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(training, "draw_step", signal_in_step_two)
    stopped = xray(*command)
    assert stopped.exit_code == status
    assert "Run the same command again to resume" in stopped.stderr
    # The step in hand was finished and saved, though no tick was due.
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 3
    assert handlers == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    monkeypatch.setattr(training, "draw_step", draw_step)
    assert xray(*command).exit_code == 0
    require_equal_weights(tmp_path, uninterrupted)


def test_killed_run_is_resumed_by_the_same_command(
    data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    command = ("train", "gan", "--data", data, "--out", tmp_path, *TINY)
    killed = subprocess.run(
        [sys.executable, "-m", "tests.support.gan_command", *map(str, command)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "DIE_AT": "5"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "step 4" in killed.stdout
    # Of what came after the tick, nothing was saved.
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 4
    resumed = xray(*command)
    assert resumed.exit_code == 0
    assert "step 6" in resumed.stdout
    assert "resuming after step 4 of 6" in resumed.stdout
    assert "step 4:" not in resumed.stdout
    require_equal_weights(tmp_path, uninterrupted)


def test_export_releases_what_was_trained_once(
    data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    command = ("train", "gan", "--data", data, "--out", run, *TINY, "--export")
    first = xray(*command)
    assert first.exit_code == 0, first.exception
    # The tiny world has hardly a test image.
    assert "Not measured. The test split has 2 images" in first.stdout
    assert f"wrote {run / 'release'}: generator.safetensors, generator.onnx" in first.stdout
    require_equal_weights(run / "release", run)
    assert GeneratorGraph.load(run / "release").images([1], "covid").shape == (1, SIDE, SIDE)
    before = snapshot(run / "release")
    again = xray(*command)
    assert f"{run / 'release'} already has this generator" in again.stdout
    assert snapshot(run / "release") == before


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of writing and content of every file."""
    return {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in folder.iterdir()}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "stylegan"], "Unknown preset 'stylegan'. Expected one of gan, dcgan"),
        (["--labels", "covid,flu"], "The training split has no image of flu"),
        (
            ["--network", "unet"],
            "network: Expected one of mlp, report, resnet, projected, got 'unet'",
        ),
        (["--device", "tpu"], "Unknown device 'tpu'"),
        (["--labels", "pneumonia"], "The training split has no image of pneumonia"),
        (["--batch-size", "64"], "A batch of 64 needs"),
    ],
)
def test_training_that_cannot_be_is_refused_before_it_begins(
    data: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    done = xray("train", "gan", "--data", data, "--out", tmp_path, *TINY, *flags)
    assert done.exit_code == 1
    assert message in str(done.exception)
    assert not (tmp_path / CHECKPOINT).exists()


def test_flag_out_of_its_range_is_refused(data: Path, tmp_path: Path) -> None:
    done = xray("train", "gan", "--data", data, "--out", tmp_path, "--size", 8)
    assert done.exit_code == 2
    assert "--size" in done.stderr
    assert "16" in done.stderr
    assert not list(tmp_path.iterdir())


def test_faults_of_a_data_set_are_told_before_training(data: Path, tmp_path: Path) -> None:
    def run(out: Path) -> str:
        done = xray("train", "gan", "--data", folder, "--out", out, *TINY)
        assert isinstance(done.exception, DataError)
        assert not (out / CHECKPOINT).exists()
        return str(done.exception)

    folder = tmp_path / "data"
    folder.mkdir()
    assert "no manifest.csv" in run(tmp_path / "empty")
    records = write_images(folder)
    write_manifest(folder, records)
    broken = in_split(records, Split.TRAIN)[0].path
    broken.write_bytes(broken.read_bytes()[:-900])
    assert broken.name in run(tmp_path / "damaged")
    broken.unlink()
    assert f"there is no file '{broken.name}'" in run(tmp_path / "missing")
    train = in_split(records, Split.TRAIN)[1:]
    write_manifest(folder, [*train, *in_split(records, Split.VALIDATION)[:1]])
    assert "KID needs" in run(tmp_path / "few")


@pytest.fixture(scope="module")
def generator(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generator") / "g.safetensors"
    untrained(path, read_manifest(data), tiny("resnet", labels=",".join(LABELS), conditional=True))
    return path


@pytest.fixture
def make(
    generator: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs `xray synthesize` on the untrained generator, into `tmp_path/made`."""
    usual = ("--generator", generator, "--against", data, "--out", tmp_path / "made")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda *more: xray("synthesize", *usual, *more)


def test_synthesize_makes_a_data_set_once(make: Callable[..., Result], tmp_path: Path) -> None:
    first = make("--count", 4)
    assert first.exit_code == 0, first.exception
    assert "generated: 4 (" in first.stdout
    assert "without a privacy check" not in first.stdout
    assert first.stderr == ""
    again = make("--count", 4)
    assert f"generated: 0, already present: 4, now in {tmp_path / 'made'}: 4" in again.stdout
    assert "generated: 2" in make("--seeds", "9,11", "--labels", "covid").stdout
    labels = [record.label for record in read_manifest(tmp_path / "made")]
    assert labels == ["covid", "covid", "normal", "normal", "covid", "covid"]


def test_interpolate_draws_one_file(
    make: Callable[..., Result], generator: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "strips"
    flags = ("--generator", generator, "--against", data, "--out", out, "--labels", "normal")
    done = xray("interpolate", 1, 2, "--count", 3, *flags)
    assert done.exit_code == 0, done.exception
    assert f"wrote {out / 'interpolation-'}" in done.stdout
    assert len(list(out.glob("*.png"))) == 1
    wrong = xray("interpolate", 1, 2**32, *flags)
    assert "out of range. Give seeds from 0 to 4294967295" in str(wrong.exception)
    assert xray("interpolate", 1, 2, *flags, "--count", 1).exit_code == 2


def test_synthesize_says_how_far_it_is_and_freezes(
    make: Callable[..., Result], tmp_path: Path
) -> None:
    done = make("--count", 6, "--progress", "--freeze")
    assert done.exit_code == 0, done.exception
    rows = read_metrics(tmp_path)
    assert [(row["step"], row["of"]) for row in rows] == [(0, 6), (3, 6), (6, 6)]
    assert rows[0]["seconds"] == 0 < rows[1]["seconds"] < rows[2]["seconds"]
    assert rows[2]["images_per_second"] > 0
    frozen = read_version(tmp_path / "made")
    assert (frozen.images, frozen.synthetic) == (6, 6)
    assert f"frozen {tmp_path / 'made'}: SHA-256 {frozen.sha256}" in done.stdout
    assert len(list((tmp_path / "made" / "thumbnails").rglob("*.jpg"))) == 6
    # The seconds of a call that resumes are added to those before; a torn row is no row.
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 6, "seco')
    more = make("--count", 8, "--progress")
    assert more.exit_code == 0, more.exception
    again = read_metrics(tmp_path)
    assert again[-1]["step"] == again[-1]["of"] == 8
    assert again[-1]["seconds"] > again[0]["seconds"] == rows[-1]["seconds"]
    # What was frozen is frozen again.
    assert verify_version(tmp_path / "made").images == 8


def test_stopped_synthesis_goes_on_with_the_same_command(
    make: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = PrivacyChecker.check

    def signal_in_first_class(self: PrivacyChecker, images: Any, label: str) -> list[PrivacyCheck]:
        if label == "covid":
            signal.raise_signal(signal.SIGTERM)
        return check(self, images, label)

    with monkeypatch.context() as patch:
        patch.setattr(PrivacyChecker, "check", signal_in_first_class)
        stopped = make("--count", 6, "--freeze")
    assert stopped.exit_code == 143
    assert "Run the same command again to resume" in stopped.stderr
    # The images in hand were finished.
    assert len(read_manifest(tmp_path / "made")) == 3
    assert not (tmp_path / "made" / "summary.json").exists()
    again = make("--count", 6, "--freeze")
    assert "generated: 3" in again.stdout
    assert read_version(tmp_path / "made").images == 6


def test_nothing_is_frozen_where_every_image_was_refused(
    make: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    near = PrivacyCheck(50.0, 0.5, near_copy=False, realism=1.0)
    monkeypatch.setattr(PrivacyChecker, "check", lambda _, images, label: [near] * len(images))
    done = make("--seeds", "0-3", "--freeze")
    assert "There is no data set to freeze, because every image was refused" in str(done.exception)


def test_synthesize_says_what_it_refused(
    make: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    near = PrivacyCheck(50.0, 2.0, near_copy=False, realism=1.0)
    monkeypatch.setattr(PrivacyChecker, "check", lambda _, images, label: [near] * len(images))
    done = make("--seeds", "0-3", "--refuse-below", 2.5)
    assert done.exit_code == 0
    assert "refused, nearer to a training image than 97.5 % of held-out images: 4\n" in done.stdout
    assert "generated: 0, already present: 0" in done.stdout
    given_up = make("--count", 1, "--refuse-below", 2.5)
    assert "Only 0 of 1 image could be made. 10 were refused" in str(given_up.exception)
    # By default such images may pass, as the help says.
    assert REFUSE_BELOW == 1.0
    assert "[default: (1.0)]" in xray("synthesize", "--help").stdout
    assert "generated: 4" in make("--seeds", "0-3").stdout


def test_synthesize_without_privacy_check_says_so(
    make: Callable[..., Result], tmp_path: Path
) -> None:
    done = make("--count", 2, "--no-privacy-check")
    assert done.exit_code == 0
    assert "one of them may reproduce a patient's image" in done.stderr
    assert "without a privacy check: 2" in done.stdout
    assert not (tmp_path / "made" / "privacy_checks.csv").exists()


def test_synthesize_warns_of_another_data_set(
    data: Path, make: Callable[..., Result], tmp_path: Path
) -> None:
    records = write_images(tmp_path, IMAGES | {Split.TRAIN: 8})
    write_manifest(tmp_path, records)
    done = make("--count", 1, "--against", tmp_path)
    assert done.exit_code == 0
    assert "is not the data set that this generator was trained on" in done.stderr


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--truncation", "1.5"], 2, "--truncation"),
        (["--truncation", "0"], 2, "--truncation"),
        (["--count", "0"], 2, "--count"),
        (["--count", "1", "--seeds", "1"], 1, "Give --count or --seeds, not both"),
        (["--seeds", "x"], 1, "is not a list of seeds"),
        (["--labels", "flu"], 1, "This generator makes covid, normal, not 'flu'"),
        (["--generator", "no-such-file"], 1, "no generator at no-such-file"),
        (["--generator", "README.md"], 1, "README.md is not a generator of xray train gan"),
        (["--against", "docs"], 1, "no manifest.csv in docs"),
    ],
)
def test_images_that_cannot_be_are_refused(
    make: Callable[..., Result], tmp_path: Path, flags: list[str], status: int, message: str
) -> None:
    done = make(*flags)
    assert done.exit_code == status
    assert message in done.stderr + str(done.exception)
    assert not (tmp_path / "made").exists()


def test_data_set_is_asked_for(generator: Path, tmp_path: Path) -> None:
    done = xray("synthesize", "--generator", generator, "--out", tmp_path)
    assert isinstance(done.exception, XrayError)
    assert "with --against or XRAY_DATA" in str(done.exception)


def test_generator_of_mixed_classes_is_refused(data: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "g.safetensors"
    untrained(mixed, read_manifest(data), tiny("resnet", labels=",".join(LABELS)))
    done = xray("synthesize", "--generator", mixed, "--out", tmp_path, "--against", data)
    assert "so the class of an image is unknown" in str(done.exception)


def test_changed_weights_are_refused(generator: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(generator.read_bytes()[:-8])
    done = xray("synthesize", "--generator", cut, "--out", tmp_path, "--no-privacy-check")
    assert isinstance(done.exception, CheckpointError)


def test_folder_that_cannot_be_written_to_is_named(
    make: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "images").write_text("a file, where a folder should be")
    done = make("--count", 1)
    assert isinstance(done.exception, XrayError)
    assert f"Cannot write to {tmp_path / 'made'}: " in str(done.exception)


def test_real_images_are_not_mixed_with_synthetic_ones(
    make: Callable[..., Result], tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    image = synthetic_image(np.random.default_rng(0))
    (folder / "1.png").write_bytes(png(image))
    write_manifest(folder, [ImageRecord(folder / "1.png", "covid", "s", "p")])
    assert "not marked as synthetic, such as 1.png" in str(make("--count", 1).exception)
