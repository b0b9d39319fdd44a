"""A PostgreSQL database for the tests: a fresh one on a running server, or on one of our own."""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg

DEFAULT_SERVER = "postgresql://postgres@127.0.0.1:5432/postgres"


@contextmanager
def fresh_database() -> Iterator[str | None]:
    """The URL of an empty database, removed at the end; None where no server can be had.

    The server is the one named by XRAY_TEST_POSTGRES, the one on the usual port, or one started
    in a temporary folder from installed binaries. Nothing but our own database is touched.
    """
    with _server() as server:
        if server is None:
            yield None
            return
        with _created(server) as url:
            yield url


@contextmanager
def copied_database(url: str) -> Iterator[str]:
    """The URL of a copy of a database that nobody is connected to, removed at the end."""
    address, _, name = url.rpartition("/")
    with _created(f"{address}/postgres", template=name) as copy:
        yield copy


@contextmanager
def _created(server: str, template: str = "template1") -> Iterator[str]:
    name = f"xray_test_{uuid.uuid4().hex[:12]}"
    with closing(psycopg.connect(server, autocommit=True)) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield server.rsplit("/", 1)[0] + f"/{name}"
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def _server() -> Iterator[str | None]:
    for url in filter(None, (os.environ.get("XRAY_TEST_POSTGRES"), DEFAULT_SERVER)):
        if _answers(url):
            yield url
            return
    binaries = _binaries()
    if binaries is None:
        yield None
        return
    # PostgreSQL refuses to run as root; its package makes a user for it.
    user = "postgres" if os.geteuid() == 0 else None

    def run(*command: Path | str) -> None:
        subprocess.run(
            command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, timeout=60
        )

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, user)
        data, port = Path(folder) / "data", _free_port()
        run(binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = (binaries / "pg_ctl", "-D", data, "-w")
        run(*control, "-o", options, "-l", data / "log", "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            run(*control, "-m", "fast", "stop")


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=3).close()
    except psycopg.OperationalError:
        return False
    return True


def _binaries() -> Path | None:
    if found := shutil.which("initdb"):
        return Path(found).parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
