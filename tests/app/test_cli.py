"""The command line: predictions as CSV, keys, the clean-up, mistakes in one line."""

import asyncio
import csv
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from starlette.types import Scope
from typer.testing import CliRunner
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.cli import xray as command_line
from app.runs.heartbeat import Heartbeat
from app.runs.tables import RunLane, RunQueue
from app.settings import Settings
from ml.classifier.bundle import PRETRAINED, read_bundle
from ml.evaluation.evidence import read_evidence
from ml.reporting.model_card import render_model_card
from tests.support import REPOSITORY
from tests.support.images import jpeg, png, synthetic_image
from tests.support.ports import free_port


def xray(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line as a user does."""
    inherited = {name: own for name, own in os.environ.items() if not name.startswith("XRAY_")}
    return subprocess.run(
        [sys.executable, "-m", "app", *map(str, arguments)],
        cwd=REPOSITORY,
        env=inherited | {"COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=250,
    )


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with three images, one of them deeper down."""
    random = np.random.default_rng(3)
    folder = tmp_path / "images"
    (folder / "deeper").mkdir(parents=True)
    image = synthetic_image(random, 300, 280)
    (folder / "a.png").write_bytes(png(image))
    (folder / "b.jpg").write_bytes(jpeg(image, quality=95))
    (folder / "deeper" / "c.png").write_bytes(png(image.astype(np.uint16) * 257))
    (folder / "notes.txt").write_text("no image")
    return folder


def test_predict_writes_one_row_for_each_image(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    done = xray("predict", images, "--csv", out)
    assert done.returncode == 0, done.stderr
    found = rows(out.read_text())
    assert [Path(row["path"]).name for row in found] == ["a.png", "b.jpg", "c.png"]
    card, _ = read_bundle(PRETRAINED)
    for row in found:
        probabilities = {label: float(row[label]) for label in card.labels}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(probabilities, key=lambda label: probabilities[label])
        assert row["decision"] in (row["label"], "uncertain")
        assert row["model_sha256"] == card.sha256
    # The 16-bit near-duplicate scores as the 8-bit image.
    assert all(abs(float(found[0][k]) - float(found[2][k])) < 1e-3 for k in card.labels)
    assert [path.name for path in tmp_path.iterdir()] == ["images", "answers.csv"]


def test_image_that_cannot_be_read_gets_a_row_and_the_status_says_so(images: Path) -> None:
    (images / "bad.png").write_bytes(b"<html>")
    done = xray("predict", images)
    assert done.returncode == 1
    assert "1 of 4" in done.stderr
    bad = [row for row in rows(done.stdout) if row["error"]]
    assert [Path(row["path"]).name for row in bad] == ["bad.png"]
    assert bad[0]["label"] == ""


@pytest.fixture(scope="module")
def upgraded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with an empty database."""
    home = tmp_path_factory.mktemp("home")
    assert xray("db", "upgrade", XRAY_HOME=str(home)).returncode == 0
    return home


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "no-such-file.png"], "There is no file or folder no-such-file.png."),
        (["predict", "LICENSE", "--bundle", "docs"], "card.json"),
        (["data", "summary", "--data", "docs"], "no manifest.csv in docs"),
        (["evaluate", "classifier", "--data", "docs"], "no manifest.csv in docs"),
        (
            ["export", "classifier", "--data", "docs", "--run", "docs", "--out", "x"],
            "not the folder of a training run",
        ),
        (["key", "revoke", "3b0f3d7e-0000-4000-8000-000000000000"], "no key"),
    ],
)
def test_mistake_is_one_line(arguments: list[str], message: str, upgraded_home: Path) -> None:
    done = xray(*arguments, XRAY_HOME=str(upgraded_home))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_unsafe_setting_is_one_line(tmp_path: Path) -> None:
    done = xray("serve", XRAY_HOME=str(tmp_path), XRAY_ENVIRONMENT="production")
    assert done.returncode == 1
    assert "XRAY_SECRET_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    wrong = xray("db", "upgrade", XRAY_HOME=str(tmp_path), XRAY_MAX_UPLOAD_MB="many")
    assert "XRAY_MAX_UPLOAD_MB" in wrong.stderr


def test_keys_of_the_command_line(tmp_path: Path) -> None:
    home = {"XRAY_HOME": str(tmp_path)}
    assert xray("db", "upgrade", **home).returncode == 0
    key = xray("key", "create", "--clinic", "North", **home).stdout.strip()
    assert key.startswith("xray_")
    listed = xray("key", "list", **home).stdout
    assert "North" in listed
    assert key not in listed
    assert key[:11] in listed


def test_version_is_the_packages() -> None:
    assert xray("--version").stdout.strip() == f"xray {version('xray-screening')}"


def test_completion_is_of_the_program_xray() -> None:
    shown = xray("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_XRAY_COMPLETE=complete_bash" in shown.stdout
    words = {"COMP_WORDS": "xray stor", "COMP_CWORD": "1", "_XRAY_COMPLETE": "complete_bash"}
    assert xray(**words).stdout.split() == ["storage"]


def test_clean_up_counts_what_it_deletes(tmp_path: Path) -> None:
    done = xray("storage", "clean-up", XRAY_HOME=str(tmp_path))
    assert done.stdout.strip() == ("Moved 0 files to the trash, deleted 0, put back 0."), (
        done.stderr
    )


def test_worker_alive_is_a_probe(tmp_path: Path) -> None:
    home = {"XRAY_HOME": str(tmp_path)}
    assert xray("worker-alive", **home).returncode == 1
    heartbeat = Heartbeat(Settings(home=tmp_path), [RunQueue.CPU], [RunLane.LONG], "")
    heartbeat.beat()
    assert xray("worker-alive", **home).returncode == 0
    heartbeat.end()
    assert "No worker" in xray("worker-alive", **home).stderr


def test_web_process_imports_no_torch() -> None:
    program = "import sys, app.main, app.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY).returncode == 0


def test_models_never_import_the_application() -> None:
    for path in (REPOSITORY / "ml").rglob("*.py"):
        for line in path.read_text().splitlines():
            assert not line.strip().startswith(("from app", "import app")), path


def test_model_card_page_is_that_of_the_released_bundle() -> None:
    card, graph = read_bundle(PRETRAINED)
    assert (REPOSITORY / "docs" / "model-card.md").read_text() == render_model_card(
        card, read_evidence(PRETRAINED, card.sha256)
    )
    assert len(graph) < 20e6


def test_summary_counts_the_real_images(data_folder: Path) -> None:
    done = xray("data", "summary", "--data", data_folder)
    assert done.returncode == 0, done.stderr
    total = done.stdout.strip().splitlines()[-2]
    with (data_folder / "manifest.csv").open() as manifest:
        labels = [row["label"] for row in csv.DictReader(manifest)]
    for label in ("covid", "pneumonia", "normal"):
        assert str(labels.count(label)) in total


def test_real_images_are_answered_as_the_card_says(data_folder: Path, tmp_path: Path) -> None:
    """A sample of the test split: the released model's accuracy is near its card's."""
    from ml.data.manifest import in_split, read_manifest
    from ml.data.splits import Split

    test = in_split(read_manifest(data_folder), Split.TEST)
    chosen = [test[index] for index in np.random.default_rng(0).permutation(len(test))[:120]]
    out = tmp_path / "answers.csv"
    assert xray("predict", *(record.path for record in chosen), "--csv", out).returncode == 0
    answers = {row["path"]: row["label"] for row in rows(out.read_text())}
    right = np.mean([answers[str(record.path)] == record.label for record in chosen])
    interval = read_bundle(PRETRAINED)[0].metrics.accuracy
    assert interval.low - 0.08 <= right <= 1


def test_first_command_makes_a_private_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = xray("key", "create", "--clinic", "North", XRAY_HOME=str(home))
    assert done.returncode == 0, done.stderr
    for path in (home, *home.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_output_outside_the_home_folder_follows_the_umask(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    before = os.umask(0o027)
    try:
        assert xray("predict", images / "a.png", "--csv", out).returncode == 0
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o777 == 0o640


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict, str]]:
    """Starts `xray serve` up to the web server; its options, and what was printed."""
    monkeypatch.chdir(tmp_path)

    def serve(*arguments: str, **environment: str) -> tuple[dict, str]:
        options: dict[str, object] = {}
        monkeypatch.setattr("app.server.run", lambda _app, **given: options.update(given))
        done = CliRunner().invoke(
            command_line,
            ["serve", "--no-worker", "--port", str(free_port()), *arguments],
            env={"XRAY_HOME": str(tmp_path / "home"), "COLUMNS": "200"} | environment,
        )
        assert done.exit_code == 0, done.output
        return options, done.output

    return serve


def test_trusted_proxies_are_a_setting(served: Callable[..., tuple[dict, str]]) -> None:
    assert served()[0]["forwarded_allow_ips"] == ["127.0.0.1"]
    networks = '["10.1.0.0/16", "192.0.2.7"]'
    options, _ = served(XRAY_TRUSTED_PROXIES=networks)
    assert options["forwarded_allow_ips"] == ["10.1.0.0/16", "192.0.2.7"]
    options, _ = served("--forwarded-allow-ips", "192.0.2.8", XRAY_TRUSTED_PROXIES=networks)
    assert options["forwarded_allow_ips"] == "192.0.2.8"


def test_client_behind_proxies_that_append_is_the_last_untrusted_address() -> None:
    seen: list[str] = []

    async def application(scope: Scope, _receive: object, _send: object) -> None:
        seen.append(scope["client"][0])

    trusting = ProxyHeadersMiddleware(application, ["10.1.0.0/16"])
    claimed = [(b"x-forwarded-for", b"6.6.6.6, 198.51.100.4, 10.1.0.9")]
    for peer in ("10.1.0.8", "203.0.113.1"):
        scope = {"type": "http", "client": (peer, 1), "headers": claimed, "scheme": "http"}
        asyncio.run(trusting(scope, None, None))
    assert seen == ["198.51.100.4", "203.0.113.1"]


@pytest.mark.parametrize(
    ("host", "hosts", "warnings"),
    [
        ("127.0.0.1", "", 0),
        ("0.0.0.0", "", 2),
        ("0.0.0.0", '["xray.local"]', 1),
    ],
)
def test_exposed_embedded_server_warns(
    served: Callable[..., tuple[dict, str]], host: str, hosts: str, warnings: int
) -> None:
    _, printed = served("--host", host, XRAY_ALLOWED_HOSTS=hosts)
    assert printed.count("Warning:") == warnings
    assert ("XRAY_ALLOWED_HOSTS is not set" in printed) == (warnings == 2)


def test_server_on_a_taken_port_says_so_before_it_prints_credentials(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = xray("serve", "--port", port, XRAY_HOME=str(tmp_path / "home"))
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"xray: Cannot listen on 127.0.0.1, port {port}: ")
    assert done.stdout == ""
    assert not (tmp_path / "home").exists()


def test_server_with_a_home_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    home = tmp_path / "file" / "home"
    done = xray("serve", "--port", free_port(), XRAY_HOME=str(home))
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"xray: Cannot write to {home}: ")
    assert done.stdout == ""
