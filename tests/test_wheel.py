"""The wheel is whole: installed without a checkout, it serves pages and answers an image."""

import csv
import os
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx2
import pytest

from tests.support import REPOSITORY
from tests.support.ports import free_port

# Building copies the weights, and a server starts.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that has the wheel and no checkout.

    The packages that the project needs are those of the environment that runs the tests: what is
    tested is what the wheel holds.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    subprocess.run([*build, REPOSITORY], check=True, capture_output=True, timeout=300)
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    (wheel,) = folder.glob("*.whl")
    install = [programs / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    # A plain path: the editable installation of this checkout is not taken along.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return programs


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables that lead to no checkout and to no settings of the person who runs the tests."""
    home = tmp_path_factory.mktemp("home")
    return {"PATH": os.environ["PATH"], "HOME": str(home), "XRAY_HOME": str(home / "var")}


@pytest.fixture(scope="module")
def address(installed: Path, environment: dict[str, str]) -> Iterator[str]:
    """Where a server of the wheel answers."""
    port = str(free_port())
    command = [installed / "xray", "serve", "--no-worker", "--port", port]
    server = subprocess.Popen(command, cwd=environment["HOME"], env=environment)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def _wait_until_ready(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the server does not become ready")


def test_code_is_that_of_the_wheel(installed: Path, environment: dict[str, str]) -> None:
    program = "import app, ml; print(app.__file__, ml.__file__)"
    run = [installed / "python", "-c", program]
    found = subprocess.check_output(run, cwd=environment["HOME"], env=environment, text=True)
    assert str(REPOSITORY) not in found


def test_pages_and_static_files_are_in_it(address: str) -> None:
    page = httpx2.get(address)
    assert "<h1" in page.text
    sheet = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
    assert httpx2.get(address + sheet).headers["content-type"].startswith("text/css")


def test_image_is_screened(address: str, image_bytes: bytes) -> None:
    headers = {"Accept": "application/json", "Origin": address}
    files = {"image": ("a.png", image_bytes, "image/png")}
    answer = httpx2.post(f"{address}/screenings", files=files, headers=headers)
    assert answer.status_code == HTTPStatus.CREATED, answer.text
    assert answer.json()["label"] in ("covid", "pneumonia", "normal")


def test_image_is_predicted_on_the_command_line(
    installed: Path, environment: dict[str, str], image_bytes: bytes, tmp_path: Path
) -> None:
    (tmp_path / "image.png").write_bytes(image_bytes)
    command = [installed / "xray", "predict", tmp_path / "image.png"]
    table = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    (row,) = csv.DictReader(table.splitlines())
    assert row["label"] in ("covid", "pneumonia", "normal")
