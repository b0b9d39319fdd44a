"""The compose file and the images: hardened, with secrets in files, and settings that start."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import AuthenticationError, Redis, RedisError

from app.settings import Settings
from tests.conftest import leave_out
from tests.support import REPOSITORY
from tests.support.ports import free_port

GIVEN = {"XRAY_PUBLIC_URL": "https://xray.example", "XRAY_ALLOWED_HOSTS": '["xray.example"]'}
SECRETS = {
    "secret_key": "4f8a1c07d3b95e62a1f0c84d7be3956220fd17ce",
    "postgres_password": "p/w@%:#1",
    "redis_password": "9b1d0c3f5a7e2468",
}
PINNED = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")


def interpolated(text: str) -> str:
    """A text as compose reads it: `${NAME:-default}`, `${NAME:?reason}`, `$$`."""

    def value(found: re.Match[str]) -> str:
        name, operator, rest = found.groups()
        return GIVEN.get(name, rest if operator == ":-" else "")

    return re.sub(r"(?<!\$)\$\{(\w+)(:[-?])([^}]*)\}", value, text).replace("$$", "$")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    return found


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name, secret in SECRETS.items():
        # As `openssl rand -hex 32 > FILE` leaves it: with a line end.
        (tmp_path / name).write_text(f"{secret}\n")
    return tmp_path


@pytest.mark.parametrize("name", ["web", "worker", "postgres", "redis"])
def test_every_service_is_hardened(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert not service.get("cap_add")
    assert re.fullmatch(r"\d+[mg]", interpolated(service["mem_limit"]))
    assert service["pids_limit"] > 0
    assert service["tmpfs"]
    assert all("size=" in mount for mount in service["tmpfs"])
    if "image" in service:
        assert PINNED.fullmatch(service["image"])
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])


def test_list_of_services_is_complete(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"web", "worker", "postgres", "redis"}
    assert compose["networks"]["back"]["internal"] is True
    for name in ("postgres", "redis"):
        assert compose["services"][name]["networks"] == ["back"]
        assert "ports" not in compose["services"][name]


def test_secrets_are_files(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN", variable):
                assert variable.endswith("_FILE")
                name = value.removeprefix("/run/secrets/")
                assert name in service["secrets"]
                assert name in compose["secrets"]
            assert not re.search(r"://[^/]*:[^/]*@", value), variable


@pytest.mark.parametrize("name", ["web", "worker"])
def test_application_starts_with_the_settings_of_the_file(
    compose: dict[str, Any], name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in compose["services"][name]["environment"].items():
        given = interpolated(value).replace("/run/secrets", str(secrets))
        monkeypatch.setenv(variable, given)
    settings = Settings(_env_file=None)
    assert settings.signing_key == SECRETS["secret_key"]
    password = "p%2Fw%40%25%3A%231"
    assert settings.effective_database_url == f"postgresql://xray:{password}@postgres/xray"
    assert settings.effective_broker_url == "redis://:9b1d0c3f5a7e2468@redis:6379/0"
    subnet = compose["networks"]["front"]["ipam"]["config"][0]["subnet"]
    assert settings.trusted_proxies == [interpolated(subnet)]


def test_redis_asks_for_the_password_of_the_file(compose: dict[str, Any], secrets: Path) -> None:
    if not shutil.which("redis-server"):
        leave_out("redis-server is not installed")
    shell, option, command = compose["services"]["redis"]["command"]
    port = free_port()
    command = command.replace("$$", "$").replace("/run/secrets", str(secrets))
    command = command.replace("\\nsave", f"\\nport {port}\\nsave", 1)
    command = command.replace("/data", str(secrets))
    with running([shell, option, command], secrets):
        stranger = Redis(port=port)
        deadline = time.monotonic() + 60
        while not answers(stranger):
            assert time.monotonic() < deadline, "Redis does not answer"
            time.sleep(0.05)
        with pytest.raises(AuthenticationError):
            stranger.ping()
        assert Redis(port=port, password=SECRETS["redis_password"]).ping()


def answers(client: Redis) -> bool:
    """Whether a server is there, whatever it says."""
    try:
        client.ping()
    except AuthenticationError:
        return True
    except RedisError:
        return False
    return True


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    """A process while the block runs."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def test_images_are_pinned_and_run_as_nobody_special() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    argument = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    assert argument
    assert PINNED.fullmatch(argument[1])
    stages: dict[str, str] = {}
    for stage in re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]:
        base, _, name = stage.splitlines()[0].split()
        assert base == "${PYTHON_IMAGE}" or base in stages
        stages[name] = stages.get(base, "") + stage
    for name in ("web", "worker"):
        assert re.findall(r"^USER (\S+)$", stages[name], re.MULTILINE)[-1] == "xray"
        assert "HEALTHCHECK" in stages[name]
    installs = re.findall(r"pip install (.*)", text)
    assert installs
    assert all("--require-hashes" in one or "--no-deps" in one for one in installs)
    assert '"*"' not in text
