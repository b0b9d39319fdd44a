"""Settings: paths below the home folder, and secrets that production refuses."""

import secrets
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import LogFormat, Settings, default_decoder_workers

SAFE = {
    "environment": "production",
    "public_url": "https://xray.example",
    "allowed_hosts": ["xray.example"],
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
