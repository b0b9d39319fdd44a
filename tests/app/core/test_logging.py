"""Logging: lines of requests, their ids, and what is not in them."""

import json
import os
import subprocess
import sys

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.support import REPOSITORY

PROGRAM = """
import logging, warnings, structlog
from app.core.logging import configure_logging
from app.settings import Settings
configure_logging(Settings(_env_file=None, log_format={format!r}))
structlog.contextvars.bind_contextvars(request_id="the-request")
logging.getLogger("app.feature").info("loaded %s", "a model")
logging.getLogger("app.feature").debug("too much")
logging.getLogger("uvicorn.error").warning("from the server")
logging.getLogger("uvicorn.access").warning("127.0.0.1 GET /?share=token")
logging.getLogger("app.access").info("request", extra={{"route": "/", "status": 200}})
warnings.warn("from a library")
try:
    password = "hidden"
    raise ValueError("of the program")
except ValueError:
    logging.getLogger("app.feature").exception("it failed")
"""


def log_of(format: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(format=format)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stdout
    return done.stderr.strip().splitlines()


def test_lines_for_machines_are_json() -> None:
    lines = [json.loads(line) for line in log_of("json")]
    loaded, server, access, warning, failure = lines
    assert (loaded["event"], loaded["level"], loaded["logger"]) == (
        "loaded a model",
        "info",
        "app.feature",
    )
    assert {line["request_id"] for line in lines} == {"the-request"}
    assert server["event"] == "from the server"
    assert (access["route"], access["status"]) == ("/", 200)
    assert "from a library" in warning["event"]
    assert "ValueError: of the program" in failure["exception"]


def test_lines_for_a_terminal_are_readable_and_hide_values() -> None:
    text = "\n".join(log_of("text"))
    assert "loaded a model" in text
    assert "ValueError: of the program" in text
    assert "hidden" not in text.replace('password = "hidden"', "")
    assert "share=token" not in text
    assert "too much" not in text


@pytest.fixture
def client(application: FastAPI) -> TestClient:
    return TestClient(application, raise_server_exceptions=False)


def test_sane_request_id_is_accepted_and_returned(client: TestClient) -> None:
    answer = client.get("/livez", headers={"X-Request-ID": "proxy-0123.abc_DEF"})
    assert answer.headers["x-request-id"] == "proxy-0123.abc_DEF"


@pytest.mark.parametrize("sent", ["", "short", "x" * 65, "line\tbreak-0123", 'quote"0123456789'])
def test_other_request_ids_are_replaced(client: TestClient, sent: str) -> None:
    given = client.get("/livez", headers={"X-Request-ID": sent}).headers["x-request-id"]
    assert given != sent
    assert len(given) == 32


def test_errors_show_the_request_id(client: TestClient) -> None:
    page = client.get("/nowhere")
    assert page.headers["x-request-id"] in page.text
    problem = client.get("/api/v1/screenings")
    assert problem.json()["request_id"] == problem.headers["x-request-id"]


def test_unexpected_error_shows_the_request_id(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **_options: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("app.screenings.routes.screenings_page", fail)
    answer = client.get("/screenings")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.text


def test_request_is_one_line_without_personal_data(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.access")
    client.get("/screenings/0b9f1c1e-6f0c-4a53-9a0e-3c1f6a6f7f10?share=token")
    (record,) = [record for record in caplog.records if record.name == "app.access"]
    line = str(record.__dict__)
    assert record.__dict__["route"] == "/screenings/{id}"
    assert record.__dict__["status"] == 404
    for part in ("token", "0b9f1c1e", "testclient"):
        assert part not in line
