"""Training and its bundle in one command, which may be cut off anywhere."""

from pathlib import Path

import pytest

from ml.classifier import export
from ml.classifier.bundle import CARD, GRAPH, PRETRAINED, read_bundle
from ml.classifier.export import is_bundle_of
from ml.classifier.predictor import Predictor
from ml.data.splits import Split
from ml.errors import XrayError
from tests.support.classifier_world import QUICK, tiny_network, write_data, xray
from tests.support.gan_world import one_thread

__all__ = ["one_thread", "tiny_network"]  # fixtures that all tests here use


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = {Split.TRAIN: 14, Split.VALIDATION: 8, Split.TEST: 8}
    return write_data(tmp_path_factory.mktemp("world") / "set", images)


def command(data: Path, out: Path) -> tuple[object, ...]:
    return ("train", "classifier", "--data", data, "--out", out, *QUICK, "--bundle-version", "7")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    done = xray(*command(data, out))
    assert done.exit_code == 0, done.output
    assert "macro AUROC" in done.stdout
    assert f"the bundle of version 7 is in {out / 'bundle'}" in done.stdout
    return out


def test_bundle_is_that_of_the_export_command(data: Path, run: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in (run / "bundle").iterdir()) == [CARD, GRAPH]
    ours = Predictor.load(run / "bundle").card
    done = xray(
        "export",
        "classifier",
        "--data",
        data,
        "--run",
        run,
        "--out",
        tmp_path,
        "--bundle-version",
        "7",
    )
    assert done.exit_code == 0, done.output
    theirs = read_bundle(tmp_path)[0]
    assert ours.metrics == theirs.metrics
    assert (ours.version, ours.sha256, ours.data) == (theirs.version, theirs.sha256, theirs.data)


def test_bundle_that_is_there_is_not_made_again(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    before = (run / "bundle" / CARD).read_text()
    monkeypatch.setattr(export, "export_bundle", never)
    assert xray(*command(data, run)).exit_code == 0
    assert (run / "bundle" / CARD).read_text() == before


def test_bundle_that_was_cut_off_is_made_whole(data: Path, run: Path) -> None:
    bundle, sha256 = run / "bundle", read_bundle(run / "bundle")[0].sha256
    (bundle / f".{CARD}.part").write_text('{"format"')
    (bundle / GRAPH).write_bytes(b"half")
    assert not is_bundle_of(bundle, run, "7")
    assert xray(*command(data, run)).exit_code == 0
    assert read_bundle(bundle)[0].sha256 == sha256
    assert sorted(path.name for path in bundle.iterdir()) == [CARD, GRAPH]


def test_bundle_of_another_name_or_of_other_options_is_another(run: Path, tmp_path: Path) -> None:
    assert is_bundle_of(run / "bundle", run, "7")
    assert not is_bundle_of(run / "bundle", run, "8")
    assert not is_bundle_of(PRETRAINED, run, read_bundle(PRETRAINED)[0].version)
    assert not is_bundle_of(tmp_path, run, "7")


def test_options_out_of_range_are_refused_before_the_images_are_read(tmp_path: Path) -> None:
    wrong = xray("train", "classifier", "--data", tmp_path, "--out", tmp_path, "--patience", 0)
    assert wrong.exit_code == 2
    assert "--patience" in wrong.stderr
    wrong = xray("train", "classifier", "--data", tmp_path, "--out", tmp_path, "--precision=half")
    assert isinstance(wrong.exception, XrayError)
    assert "precision: Expected one of float32, bfloat16, got 'half'." in str(wrong.exception)
