"""Long jobs and schedules from the command line."""

import json
import re
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import xray
from app.core.database import Database, now
from app.core.errors import AppError
from app.runs.queue import get_run
from app.runs.run_types import RUN_TYPES
from app.runs.tables import RunStatus
from ml.errors import XrayError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("XRAY_DATA", raising=False)
    (tmp_path / "manifest.csv").touch()
    return tmp_path


def told(*arguments: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(xray, list(arguments))
    if isinstance(done.exception, AppError | XrayError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_run_is_started_shown_cancelled_and_resumed(home: Path) -> None:
    run_id = told(
        "run", "start", "train-classifier", "--data", str(home), "--set", "epochs=3"
    ).strip()
    assert uuid.UUID(run_id)
    assert "queued" in told("run", "list")
    shown = told("run", "show", run_id)
    assert str(home) in shown
    assert re.search(r"options: epochs\s+3\s", shown)
    assert "{" not in shown
    assert json.loads(told("run", "show", run_id[:8], "--json"))["options"]["epochs"] == 3
    assert told("run", "cancel", run_id).strip() == "cancelled"
    assert told("run", "resume", run_id).strip() == "queued"
    with pytest.raises(AppError, match="Cancel it first"):
        told("run", "delete", run_id)
    told("run", "cancel", run_id[:8])
    assert "freed" in told("run", "delete", run_id[:8])
    assert run_id[:8] not in told("run", "list")


def test_estimate_starts_nothing(home: Path) -> None:
    printed = told(
        "run", "start", "train-gan", "--data", str(home), "--length", "trial", "--estimate"
    )
    assert re.match(r"About \d+ (s|min): 300 steps at 32 px\. A rough estimate from small", printed)
    assert json.loads(told("run", "list", "--json")) == []
    run_id = told(
        "run",
        *("start", "train-gan", "--data", str(home), "--preset", "r3gan", "--length", "trial"),
        *("--set", "steps=7"),
    ).strip()
    options = json.loads(told("run", "show", run_id, "--json"))["options"]
    assert (options["objective"], options["size"], options["steps"]) == ("r3gan", 32, 7)
    with pytest.raises(XrayError, match=r"has no preset 'x'\. Expected one of gan, dcgan"):
        told("run", "start", "train-gan", "--data", str(home), "--preset", "x")
    with pytest.raises(XrayError, match="No estimate: no run of this kind"):
        told("run", "start", "train-gan", "--data", str(home), "--queue", "gpu", "--estimate")


def test_list_of_runs_fits_80_columns(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for run_type in ("train-classifier", "compare-conditions"):
        synthetic = ["--set", f"synthetic={home}"] if run_type == "compare-conditions" else []
        run_id = told("run", "start", run_type, "--data", str(home), *synthetic).strip()
    reason = "The data set has no images of normal in its test split, so nothing can be measured."
    database = Database(f"sqlite:///{home / 'home' / 'xray.db'}")
    with database.session() as session:
        run = get_run(session, uuid.UUID(run_id))
        run.status, run.reason, run.started_at = RunStatus.FAILED, reason, now()
        run.progress = {"step": 12345.0, "of": 20000.0}
    database.close()
    listed = told("run", "list")
    rows = [line for line in listed.splitlines() if "compare-conditions" in line]
    assert len(rows) == 1
    assert all(text in rows[0] for text in (run_id[:8], "failed", "12345 of 20000"))
    assert "…" not in listed
    assert f"{run_id[:8]}: {reason}" in listed
    assert len(listed.splitlines()) == 4
    assert len(json.loads(told("run", "list", "--json"))) == 2


def test_mistakes_are_told_all_at_once(home: Path) -> None:
    with pytest.raises(AppError, match=r"data: Choose a data set; epochs: Expected a whole"):
        told("run", "start", "train-classifier", "--set", "epochs=0")
    with pytest.raises(XrayError, match="Cannot read --set epochs"):
        told("run", "start", "train-classifier", "--data", str(home), "--set", "epochs")
    with pytest.raises(XrayError, match=r"Unknown day 'noon' in --days\. Expected mon, tue"):
        told("schedule", "add", "x", "train-gan", "--data", str(home), "--days", "noon")
    with pytest.raises(XrayError, match=r"There is no run type 'x'\."):
        told("run", "types", "x")


def test_kinds_and_their_options_are_listed(home: Path) -> None:
    listed = told("run", "types")
    assert all(name in listed for name in RUN_TYPES)
    options = told("run", "types", "synthesize")
    assert "Seeds to use instead" in options
    assert "Classes to generate" in options


def test_schedule_is_added_listed_and_removed(home: Path) -> None:
    added = told(
        "schedule",
        "add",
        "retrain",
        "train-classifier",
        "--data",
        str(home),
        "--at",
        "03:15",
        "--days",
        "thu,mon",
    ).strip()
    listed = told("schedule", "list")
    assert all(text in listed for text in (added[:8], "retrain", "03:15", "mon,thu"))
    (values,) = json.loads(told("schedule", "list", "--json"))
    assert (values["id"], values["run_type"]) == (added, "train-classifier")
    run_id = told("schedule", "run", added[:8]).strip()
    assert json.loads(told("run", "show", run_id, "--json"))["schedule_id"] == added
    told("schedule", "remove", added[:8])
    assert "retrain" not in told("schedule", "list")


@pytest.mark.parametrize(
    "command",
    [
        ("run", "types"),
        ("run", "types", "train-gan"),
        ("run", "list"),
        ("schedule", "list"),
        ("model", "list"),
        ("key", "list"),
        ("admin", "list"),
        ("monitor", "check"),
    ],
)
def test_lists_are_json_for_programs_and_without_hashes(home: Path, command: tuple[str]) -> None:
    if command[0] == "key":
        told("key", "create", "--clinic", "Ward 3")
    if command[0] == "admin":
        told("admin", "create", "somebody")
    printed = told(*command, "--json")
    assert isinstance(json.loads(printed), list | dict)
    assert "hash" not in printed
    if command[0] == "key":
        assert json.loads(printed)[0]["clinic"] == "Ward 3"
