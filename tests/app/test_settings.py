"""Settings: paths below the home folder, and secrets that production refuses."""

import secrets
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy import make_url

from app.settings import LogFormat, Settings, default_decoder_workers

SAFE = {
    "environment": "production",
    "public_url": "https://xray.example",
    "allowed_hosts": ["xray.example"],
    "database_url": "postgresql://xray@postgres/xray",
}


def production(**given: object) -> Settings:
    return Settings(_env_file=None, **(SAFE | given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("", "at least 32 characters"),
        ("6f1d0c8a2b9e4d57", "at least 32 characters"),
        ("a" * 32, "10 different characters"),
        ("0" * 32, "10 different characters"),
        ("changeme" * 8, "10 different characters"),
        ("changeme-before-going-to-production-1234", "placeholder"),
        ("MyHospitalsPassword-2026-is-very-long", "placeholder"),
        ("0123456789abcdef" * 2, "repeats itself"),
    ],
)
def test_weak_secret_is_refused_in_production(secret: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=rf"XRAY_SECRET_KEY .*{reason}"):
        production(secret_key=secret)
    # At home it is the user's own affair.
    assert Settings(_env_file=None, secret_key=secret)


def test_weak_metrics_token_is_refused_in_production() -> None:
    secret = secrets.token_hex(32)
    with pytest.raises(ValidationError, match=r"XRAY_METRICS_TOKEN .*32 characters"):
        production(secret_key=secret, metrics_token="short")
    assert production(secret_key=secret, metrics_token=secrets.token_hex(32))


@pytest.mark.parametrize("hosts", [[], [""], ["*"], ["xray.example", "*"], ["*."], [" "]])
def test_empty_or_wildcard_host_is_refused_in_production(hosts: list[str]) -> None:
    with pytest.raises(ValidationError, match="XRAY_ALLOWED_HOSTS"):
        production(secret_key=secrets.token_hex(32), allowed_hosts=hosts)


@pytest.mark.parametrize("url", ["", "sqlite:////tmp/xray.db"])
def test_sqlite_is_refused_in_production(url: str) -> None:
    with pytest.raises(ValidationError, match="XRAY_DATABASE_URL needs a PostgreSQL database"):
        production(secret_key=secrets.token_hex(32), database_url=url)


@pytest.mark.parametrize("proxy", ["*", "0.0.0.0/0", "::/0", "proxy", ""])
def test_proxy_without_an_address_is_refused(proxy: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings(_env_file=None, trusted_proxies=[proxy])


def test_secret_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secrets.token_hex(32)
    (tmp_path / "key").write_text(f"{secret}\n")
    monkeypatch.setenv("XRAY_SECRET_KEY_FILE", str(tmp_path / "key"))
    assert Settings(_env_file=None).signing_key == secret
    # Also where `.env` names it.
    monkeypatch.delenv("XRAY_SECRET_KEY_FILE")
    (tmp_path / ".env").write_text(f"XRAY_SECRET_KEY_FILE={tmp_path / 'key'}\n")
    assert Settings(_env_file=tmp_path / ".env").signing_key == secret


@pytest.mark.parametrize(
    ("content", "also", "reason"),
    [
        (None, "", "cannot be read"),
        (b" \n", "", "is empty"),
        (b"\xff\xfe", "", "cannot be read"),
        (b"secret", "another", "are both set"),
    ],
)
def test_unclear_secret_file_is_refused(
    content: bytes | None,
    also: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    monkeypatch.setenv("XRAY_SECRET_KEY_FILE", str(tmp_path / "key"))
    if also:
        monkeypatch.setenv("XRAY_SECRET_KEY", also)
    with pytest.raises(SettingsError, match=rf"XRAY_SECRET_KEY_FILE .*{reason}"):
        Settings(_env_file=None)


def test_password_joins_a_url_without_one() -> None:
    settings = Settings(
        _env_file=None,
        database_url="postgresql://xray@[::1]:5433/xray",
        database_password="a b%/@:",
        broker_url="redis://:own@redis:6379/0",
        broker_password="other",
    )
    assert settings.effective_database_url == "postgresql://xray:a%20b%25%2F%40%3A@[::1]:5433/xray"
    assert make_url(settings.effective_database_url).password == "a b%/@:"
    assert settings.effective_broker_url == settings.broker_url
    assert Settings(_env_file=None, broker_password="other").effective_broker_url == ""


def test_decoders_fit_in_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("app.settings._CONTAINER_MEMORY", limit)
    monkeypatch.setattr("os.cpu_count", lambda: 32)
    for content, workers in (("2147483648", 1), (f"{9 * 2**30}", 3)):
        limit.write_text(f"{content}\n")
        assert default_decoder_workers() == workers
    limit.write_text("max\n")
    assert 1 <= default_decoder_workers() <= 8


@pytest.mark.parametrize("number", range(50))
def test_random_secret_is_accepted(number: int) -> None:
    assert production(secret_key=secrets.token_hex(16 + number % 2))
    assert production(secret_key=secrets.token_urlsafe(32))


def test_production_logs_json_unless_configured() -> None:
    secret = secrets.token_hex(32)
    assert production(secret_key=secret).effective_log_format is LogFormat.JSON
    assert production(secret_key=secret, log_format="text").effective_log_format is LogFormat.TEXT
    assert Settings(_env_file=None).effective_log_format is LogFormat.TEXT


def test_home_folder_names_every_path(tmp_path: Path) -> None:
    home = Settings(_env_file=None, home=tmp_path / "home").home_folder
    assert home.run("a") == tmp_path / "home" / "runs" / "a"
    assert home.relative(home.model("b")) == "models/b"
    assert home.resolve("data/c") == home.data_set("c")


@pytest.mark.parametrize(("name", "overlaps"), [(".", True), ("home/runs", True), ("data", False)])
def test_folder_that_overlaps_the_home_folder_is_known(
    tmp_path: Path, name: str, overlaps: bool
) -> None:
    home = Settings(_env_file=None, home=tmp_path / "home").home_folder
    assert home.overlaps(tmp_path / name) is overlaps
