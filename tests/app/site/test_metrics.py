"""The metrics of the web process, and who may read them."""

import secrets

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient


@pytest.fixture
def scraper(application: FastAPI) -> TestClient:
    """A caller on this machine."""
    return TestClient(application, client=("127.0.0.1", 1))


def values(scraper: TestClient) -> dict[str, float]:
    answer = scraper.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = (line for line in answer.text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_requests_and_screenings_are_counted(
    scraper: TestClient, visitor: TestClient, image_bytes: bytes
) -> None:
    before = values(scraper)
    address = visitor.post("/screenings", files={"image": image_bytes}).headers["location"]
    visitor.get(address)
    after = values(scraper)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert (
        grown('xray_http_requests_total{method="GET",route="/screenings/{id}",status="200"}') == 1
    )
    assert grown('xray_http_request_seconds_count{method="POST",route="/screenings"}') == 1
    assert grown("xray_decode_seconds_count") == 1
    assert grown("xray_inference_seconds_count") == 1
    decisions = [name for name in after if name.startswith("xray_screenings_total")]
    assert sum(grown(name) for name in decisions) == 1
    assert after["xray_decoder_queue_length"] == 0
    assert after["xray_screening_queue_length"] == 0


def test_runs_and_the_model_are_shown(scraper: TestClient, application: FastAPI) -> None:
    found = values(scraper)
    card = application.state.services.classifier.card
    assert found[f'xray_model_info{{sha256="{card.sha256}",version="{card.version}"}}'] == 1
    statuses = {name for name in found if name.startswith("xray_runs{")}
    assert 'xray_runs{status="queued"}' in statuses
    assert len(statuses) == 5


def test_others_find_no_metrics(visitor: TestClient, application: FastAPI) -> None:
    assert visitor.get("/metrics").status_code == 404
    assert "/metrics" not in application.openapi()["paths"]


def test_token_opens_the_metrics_and_only_the_token(
    application: FastAPI,
    scraper: TestClient,
    visitor: TestClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = secrets.token_hex(32)
    settings = application.state.services.settings
    monkeypatch.setattr(settings, "metrics_token", SecretStr(token))
    assert scraper.get("/metrics").status_code == 404
    assert visitor.get("/metrics", headers={"Authorization": "Bearer other"}).status_code == 404
    found = visitor.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert found.status_code == 200
