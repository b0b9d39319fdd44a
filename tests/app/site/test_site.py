"""Pages around the screening, health, headers, settings."""

import secrets
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.testclient import TestClient

from app.settings import Settings
from tests.conftest import migrated_app
from tests.support import REPOSITORY

LONG_SECRET = secrets.token_hex(32)


@pytest.mark.parametrize("path", ["/", "/screenings", "/api"])
def test_pages_answer(visitor: TestClient, path: str) -> None:
    assert visitor.get(path).status_code == 200


def test_model_page_shows_the_card(application: FastAPI, visitor: TestClient) -> None:
    card = application.state.services.classifier.card
    address = visitor.get("/model").headers["location"]
    assert address == f"/models/{card.sha256}"
    page = visitor.get(address).text
    assert card.sha256 in page
    assert f"{card.metrics.accuracy.value:.3f}" in page
    for unknown in ("none-such", "0" * 64, "%00", "../x"):
        assert visitor.get(f"/models/{unknown}").status_code == 404


@pytest.mark.parametrize("path", ["/nothing", "/screenings/1", "/static/none.css"])
def test_unknown_address_is_a_page(visitor: TestClient, path: str) -> None:
    response = visitor.get(path)
    assert response.status_code == 404
    assert "text/html" in response.headers["content-type"]


def test_headers_switch_off_what_pages_do_not_need(visitor: TestClient) -> None:
    for path in ("/", "/static/css/base.css", "/nothing", "/api/v1/openapi.json"):
        headers = visitor.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_probes(application: FastAPI, visitor: TestClient) -> None:
    application.state.services.classifier.get()
    assert visitor.get("/livez").json() == {"status": "alive"}
    ready = visitor.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"classifier": "ready", "database": "ready", "storage": "ready"}


def test_broken_bundle_is_told_and_stops_no_page(tmp_path: Path, image_bytes: bytes) -> None:
    settings = Settings(_env_file=None, home=tmp_path, bundle=tmp_path / "no-bundle")
    with TestClient(migrated_app(settings)) as client:
        assert client.get("/").status_code == 200
        assert client.get("/livez").status_code == 200
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["classifier"]) == (503, "not ready")
        refused = client.post("/screenings", files={"image": image_bytes})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "60"
        assert str(tmp_path) not in refused.text
        assert client.get("/model").status_code == 200


def test_foreign_host_is_refused(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path, allowed_hosts=["xray.example"])
    with TestClient(migrated_app(settings)) as client:
        assert client.get("/livez").status_code == 400
        assert client.get("/livez", headers={"host": "xray.example"}).status_code == 200


def test_unsafe_production_settings_refuse_to_start() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, environment="production")
    for name in (
        "XRAY_SECRET_KEY",
        "XRAY_ALLOWED_HOSTS",
        "XRAY_PUBLIC_URL",
        "XRAY_DATABASE_URL",
    ):
        assert name in str(refused.value)
    safe = Settings(
        _env_file=None,
        environment="production",
        secret_key=LONG_SECRET,
        allowed_hosts=["xray.example"],
        public_url="https://xray.example",
        database_url="postgresql://xray@postgres/xray",
    )
    assert safe.secure_cookies
    assert LONG_SECRET not in repr(safe)


def test_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first = Settings(_env_file=None, home=tmp_path).signing_key
    assert Settings(_env_file=None, home=tmp_path).signing_key == first
    assert len(first) == 64
    assert (tmp_path / "secret.key").stat().st_mode & 0o077 == 0


def test_every_setting_is_documented() -> None:
    root = REPOSITORY
    documented = (root / ".env.example").read_text()
    for name, field in Settings.model_fields.items():
        assert f"XRAY_{name.upper()}=" in documented
        assert field.description


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/gallery", "/static/icon.svg"])
def test_head_is_answered_like_get_without_a_body(visitor: TestClient, path: str) -> None:
    got, head = visitor.get(path), visitor.head(path)
    assert head.status_code == got.status_code
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.content == b""
    assert visitor.head("/nowhere").status_code == 404
