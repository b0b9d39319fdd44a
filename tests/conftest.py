"""What the tests share: images, a running application on each database, a live server."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: as many processes as cores, one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.accounts.api_keys import create_key
from app.accounts.tables import Clinic, Role, User
from app.accounts.users import open_session
from app.core.database import Database
from app.core.security import SESSION_COOKIE
from app.main import create_app
from app.migrations import upgrade
from app.settings import Settings
from tests.support.images import png, synthetic_image
from tests.support.postgres import copied_database, fresh_database
from tests.support.released_models import ReleasedModels

IN_CI = bool(os.environ.get("CI"))
# Read at once: some tests change the environment.
REAL_IMAGES = os.environ.get("XRAY_DATA")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long stories, so that none is left for one worker at the end."""
    stories = tuple(Path(__file__).parent / name for name in ("faults", "e2e"))
    items.sort(key=lambda item: not any(item.path.is_relative_to(one) for one in stories))


def leave_out(reason: str) -> None:
    """Skip a test for want of something; in CI that is a failure."""
    if IN_CI:
        pytest.fail(f"CI may leave nothing out: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def image_bytes() -> bytes:
    """A small image-like PNG."""
    return png(synthetic_image(np.random.default_rng(7), 320, 288))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real images that XRAY_DATA names."""
    if not REAL_IMAGES:
        leave_out("XRAY_DATA names no data set of real images")
    return Path(str(REAL_IMAGES))


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def migrated_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database of each kind with its tables, which is copied and holds no row."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('migrated') / 'xray.db'}"
        _migrate(url)
        yield url
        return
    with fresh_database() as fresh:
        if fresh is None:
            leave_out("no PostgreSQL server here, and none that could be started")
        _migrate(str(fresh))
        yield str(fresh)


@pytest.fixture(scope="module")
def database_url(migrated_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of each kind with its tables and no row, separate for each module of tests.

    Each module has a copy, rather than one transaction that is rolled back: the application under
    test answers from several threads, each with its own connection and commit, and what one
    commits the others have to see. Savepoints within one connection would hide that, and nest
    wrongly where a test keeps a session open during a request.
    """
    if migrated_database.startswith("sqlite"):
        copy = tmp_path_factory.mktemp("database") / "xray.db"
        shutil.copyfile(migrated_database.removeprefix("sqlite:///"), copy)
        yield f"sqlite:///{copy}"
        return
    with copied_database(migrated_database) as url:
        yield url


@pytest.fixture(scope="module")
def settings(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a separate application."""
    return Settings(
        _env_file=None,
        home=tmp_path_factory.mktemp("home"),
        database_url=database_url,
        decoder_workers=2,
        decode_timeout_s=20,
        # All tests call from one address.
        max_forms_per_address=64,
        visitor_uploads_per_minute=10_000,
    )


@pytest.fixture(scope="session")
def released_models(tmp_path_factory: pytest.TempPathFactory) -> ReleasedModels:
    """The models of the application, ready to be installed."""
    return ReleasedModels.registered_in(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def application(settings: Settings, released_models: ReleasedModels) -> Iterator[FastAPI]:
    """A running application; its services are in `application.state.services`."""
    app = migrated_app(settings)
    released_models.install(settings)
    with TestClient(app):
        yield app


def migrated_app(settings: Settings) -> FastAPI:
    """An application whose database has its tables."""
    _migrate(settings.effective_database_url)
    return create_app(settings)


def _migrate(url: str) -> None:
    database = Database(url)
    upgrade(database.engine)
    database.close()


@pytest.fixture
def visitor(application: FastAPI) -> TestClient:
    """A visitor without a cookie yet."""
    return TestClient(application, follow_redirects=False)


@pytest.fixture
def outsider(application: FastAPI) -> TestClient:
    """Another visitor."""
    return TestClient(application, follow_redirects=False)


@pytest.fixture
def new_clinic(application: FastAPI) -> Callable[[str], TestClient]:
    """Makes a clinic and gives a client that calls the API with its key."""

    def make(name: str) -> TestClient:
        with application.state.services.database.session() as session:
            key = create_key(session, f"{name} {time.monotonic_ns()}", "test")
        return TestClient(application, headers={"Authorization": f"Bearer {key}"})

    return make


@pytest.fixture
def clinic(new_clinic: Callable[[str], TestClient]) -> TestClient:
    """A clinic that calls the API."""
    return new_clinic("clinic")


@pytest.fixture
def sign_in(application: FastAPI) -> Callable[[str], TestClient]:
    """Makes a user of a role, a clinician with a new clinic, and signs it in."""

    def make(role: str) -> TestClient:
        name = f"{role} {time.monotonic_ns()}"
        with application.state.services.database.session() as session:
            clinic = Clinic(name=f"clinic of {name}")
            session.add(clinic)
            session.flush()
            clinic_id = clinic.id if role == Role.CLINICIAN else None
            # Hashing a password takes long on purpose.
            user = User(name=name, password_hash="none", role=Role(role), clinic_id=clinic_id)
            session.add(user)
            session.flush()
            token = open_session(session, user)
        return TestClient(application, follow_redirects=False, cookies={SESSION_COOKIE: token})

    return make


@pytest.fixture
def admin(sign_in: Callable[[str], TestClient]) -> TestClient:
    """An admin who is signed in."""
    return sign_in("admin")


@pytest.fixture
def clinician(sign_in: Callable[[str], TestClient]) -> TestClient:
    """A clinician who is signed in."""
    return sign_in("clinician")


@pytest.fixture(scope="session")
def live_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of the server that `live_server` starts."""
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="session")
def live_server(live_home: Path) -> Iterator[str]:
    """The address of a server with everything embedded, as a user starts it, but no worker.

    The runs that a test starts are in its own hands.
    """
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("XRAY_")
    }
    with (live_home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--port", str(port), "--no-worker"],
            env=environment | {"XRAY_HOME": str(live_home)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(server, address, live_home / "server.log")
        yield address
    finally:
        server.terminate()
        server.wait(60)


def _wait_until_ready(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the server was not ready in time:\n{log.read_text()}")
