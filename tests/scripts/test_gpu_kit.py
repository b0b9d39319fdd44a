"""The GPU kit from end to end on the CPU: packed, unpacked, checked, trained, collected."""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ml.commands.main import app
from ml.data.splits import Split
from ml.training.checkpoint import load_checkpoint
from scripts.gpu import check, transfer
from scripts.gpu.step import STEPS, run_process, run_step
from tests.support.classifier_world import tiny_network, write_data  # noqa: F401
from tests.support.gan_world import one_thread  # noqa: F401

SITES = ("east", "north")
IMAGES = {Split.TRAIN: 8, Split.VALIDATION: 4, Split.TEST: 4}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder on the machine, after the data came in several parts."""
    folder = tmp_path_factory.mktemp("kit")
    data = write_data(folder / "set", IMAGES, sources=SITES)
    size = sum(path.stat().st_size for path in data.iterdir())
    patch = pytest.MonkeyPatch()
    patch.setattr(transfer, "CODE", ("scripts", "pyproject.toml"))
    parts = transfer.pack(data, None, folder / "parts", limit=size // 2)
    patch.undo()
    assert len(parts) > 2
    assert transfer.unpack(parts[1:], folder / "home") == [1]
    assert transfer.unpack(parts[:1], folder / "home") == []
    assert transfer.unpack(parts, folder / "home") == []
    for path in data.iterdir():
        assert (folder / "home" / "data" / path.name).read_bytes() == path.read_bytes()
    assert (folder / "home" / "code" / "scripts" / "gpu" / "README.md").is_file()
    return folder / "home"


def in_this_process(command: Sequence[str], home: Path, seconds: float) -> int:
    """Run a step's program without the start of another Python."""
    assert seconds <= 9 * 60
    module, *arguments = command[1:]
    if module == "scripts.gpu.check":
        return 0 if check.check(Path(arguments[1]), toy=True) else 1
    return CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code


@pytest.mark.parametrize("name", STEPS)
def test_step_runs_and_its_results_come_back(home: Path, tmp_path: Path, name: str) -> None:
    # The same command again continues, or changes nothing; the check only repeats.
    for _ in range(1 if name == "check" else 2):
        assert run_step(name, home, tmp_path / "out", toy=True, runner=in_this_process) == 0
    pieces = list((tmp_path / "out").iterdir())
    assert 0 < len(pieces) <= 8
    assert all(piece.stat().st_size <= transfer.RESULT_BYTES for piece in pieces)
    assert transfer.join(tmp_path / "out", tmp_path / "back") == [name]
    back = tmp_path / "back" / name
    if name == "check":
        report = json.loads((back / "check" / "check.json").read_text())
        assert report["exact"]
        assert all(0 < value < 1e-4 for value in report["difference_from_float64"].values())
        assert len(report["speed"]) == 1
        assert all(ways["plain"]["ratio"] == 1 for ways in report["speed"].values())
    elif name == "gan":
        assert load_checkpoint(back / "gan" / "checkpoint.pt")["step"] == 2
        assert (back / "gan" / "generator.safetensors").stat().st_size > 1000
    else:
        sites = json.loads((back / "sites" / "sites.json").read_text())["sites"]
        assert [site["site"] for site in sites] == list(SITES)


def test_damaged_part_is_named_and_can_be_sent_again(home: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "manifest.csv").write_text("image\n")
    patch = pytest.MonkeyPatch()
    patch.setattr(transfer, "CODE", ())
    (part,) = transfer.pack(data, None, tmp_path / "parts")
    patch.undo()
    whole = part.read_bytes()
    part.write_bytes(whole.replace(b"image\n", b"imago\n"))
    with pytest.raises(SystemExit, match=r"data/manifest\.csv of part 1 is damaged"):
        transfer.unpack([part], tmp_path / "home")
    part.write_bytes(whole)
    assert transfer.unpack([part], tmp_path / "home") == []


def test_part_with_a_path_outside_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "part-1.tar", "w") as archive:
        archive.add(tmp_path / "evil", arcname="../outside")
    with pytest.raises(tarfile.OutsideDestinationError):
        transfer.unpack([tmp_path / "part-1.tar"], tmp_path / "home")


def test_results_without_room_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RESULT_BYTES", 30_000)
    for name, size in (("best", 100_000), ("large", 150_000), ("small", 10)):
        (tmp_path / name).write_bytes(bytes(size))
    files = [tmp_path / name for name in ("best", "large", "small")]
    assert transfer.collect(files, tmp_path, tmp_path / "out", "gan") == ["large"]
    transfer.join(tmp_path / "out", tmp_path / "back")
    assert {path.name for path in (tmp_path / "back" / "gan").iterdir()} == {"best", "small"}


def test_program_that_runs_too_long_is_asked_to_end(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    waiting = "import time; time.sleep(60)"
    assert run_process(["-c", waiting], tmp_path, 0.1) == 143
    assert run_process(["-c", "raise SystemExit(3)"], tmp_path, 60) == 3
