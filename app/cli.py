"""`xray`: the command line. This module has the root commands; each feature adds its own group."""

import os
import resource
import signal
import socket
import sys
import tempfile
from contextlib import nullcontext
from enum import StrEnum
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console

from app.accounts.cli import admin_app, key_app
from app.backup.cli import backup, restore
from app.core.errors import AppError
from app.core.logging import configure_logging
from app.core.memory import return_freed_memory
from app.core.notification_cli import notification_app
from app.monitoring.cli import monitor_app
from app.registry.cli import model_app
from app.runs.cli import run_app
from app.runs.schedule_cli import schedule_app
from app.screenings.cli import replay_command, storage_app
from app.settings import Environment, Settings
from ml.commands.main import app as xray
from ml.errors import XrayError

if TYPE_CHECKING:
    from app.core.database import Database
Word = TypeVar("Word", bound=StrEnum)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
db_app = typer.Typer(no_args_is_help=True, help="Manage the database.")
_GROUPS = (
    (db_app, "db"),
    (key_app, "key"),
    (admin_app, "admin"),
    (storage_app, "storage"),
    (run_app, "run"),
    (schedule_app, "schedule"),
    (model_app, "model"),
    (monitor_app, "monitor"),
    (notification_app, "notification"),
)
for _group, _name in _GROUPS:
    xray.add_typer(_group, name=_name)
for _command in (backup, restore):
    xray.command()(_command)
xray.command("replay")(replay_command)
# They may create the home folder or a copy of it, with patients' images and the secret key. The
# others, of the library, write where their user says, and their user's umask decides who reads it.
_PRIVATE = {name for _, name in _GROUPS} | {"serve", "worker", "backup", "restore", "replay"}


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"xray {version('xray-screening')}")
        raise typer.Exit


@xray.callback()
def root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Chest X-ray screening: data, models, predictions and the web application."""
    configure_logging()
    if context.invoked_subcommand in _PRIVATE:
        os.umask(0o077)


@xray.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    forwarded_allow_ips: Annotated[
        str,
        typer.Option(
            help="Proxies whose X-Forwarded-* headers are trusted, instead of"
            " XRAY_TRUSTED_PROXIES: addresses and networks with commas between."
        ),
    ] = "",
    worker: Annotated[bool, typer.Option(help="Also run a worker; never in production.")] = True,
) -> None:
    """Serve the web application and the API; upgrades the database first."""
    return_freed_memory()
    from app.main import create_app
    from app.server import run
    from app.worker.supervisor import can_work, supervised_worker

    settings = _settings_of_server(host)
    configure_logging(settings)
    console = Console()
    # Before anything is created or printed, for a password is shown only once.
    _require_free_port(host, port)
    if settings.environment is Environment.EMBEDDED:
        _require_writable_home(settings)
    database = _migrated_database(settings)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}{settings.effective_root_path}"
    console.print(f"Xray Screening: open {address}", markup=False, soft_wrap=True)
    _require_one_installation(database, settings)
    embedded = settings.environment is Environment.EMBEDDED
    if embedded and host not in LOOPBACK:
        _warn_of_exposure(host, settings, console)
    # In production the output is a log that others read, so that no secret is printed there:
    # `xray key create` makes keys and `xray admin create` admins.
    if embedded:
        _set_up(database, settings, console)
    database.close()
    worker = worker and embedded
    if worker and not can_work():
        console.print("No worker is running. Install the extras worker and train to run jobs.")
    # The server shuts down and then raises the signal again; the worker has to be stopped as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with supervised_worker(settings) if worker and can_work() else nullcontext():
        run(
            create_app(settings),
            host=host,
            port=port,
            server_header=False,
            forwarded_allow_ips=forwarded_allow_ips or settings.trusted_proxies,
            timeout_graceful_shutdown=20,
        )


def _require_free_port(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on, because of another server for example."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = addresses[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as problem:
        raise XrayError(
            f"Cannot listen on {host}, port {port}: {problem.strerror or problem}. Stop the other "
            "server, or give another --port or --host."
        ) from problem


def _require_writable_home(settings: Settings) -> None:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.home):
            pass
    except OSError as problem:
        raise XrayError(
            f"Cannot write to {settings.home}: {problem.strerror or problem}. Set XRAY_HOME to a "
            "folder that this user can write to."
        ) from problem


def _warn_of_exposure(host: str, settings: Settings, console: Console) -> None:
    """Say what is unsafe about an embedded server that other machines can reach."""
    console.print(
        f"Warning: everyone who can reach {host} can use this server, and what they send is not"
        " encrypted. Use XRAY_ENVIRONMENT=production behind a proxy, or --host 127.0.0.1.",
        soft_wrap=True,
    )
    if "*" in settings.allowed_hosts:
        console.print(
            "Warning: XRAY_ALLOWED_HOSTS is not set, so a foreign web site can reach this server"
            " through the browser of anyone in this network. Set it to the names that people type,"
            ' such as ["xray.local"].',
            soft_wrap=True,
        )


def _set_up(database: "Database", settings: Settings, console: Console) -> None:
    """Create what a first start needs; its secrets are shown only then."""
    from app.accounts.api_keys import create_first_key
    from app.accounts.users import FIRST_ADMIN, create_first_admin
    from app.datasets.versions import ensure_demonstration

    with database.session() as session:
        key, password = create_first_key(session), create_first_admin(session)
        ensure_demonstration(session, settings)
    if key:
        console.print(f"API key, shown only now: [bold]{key}[/bold]", soft_wrap=True)
    if password:
        console.print(
            f"Sign in as [bold]{FIRST_ADMIN}[/bold] with the password, shown only now: "
            f"[bold]{password}[/bold]",
            soft_wrap=True,
        )


@xray.command()
def worker(
    queues: Annotated[str, typer.Option(help="Queues to serve: cpu, gpu or both.")] = "cpu,gpu",
    lanes: Annotated[
        str, typer.Option(help="Lanes to serve: long (trainings), short (the others) or both.")
    ] = "long,short",
    lease: Annotated[
        float,
        typer.Option(min=1, help="Seconds after which another worker takes over if this one dies."),
    ] = 30.0,
) -> None:
    """Process queued runs, one of each lane at a time; upgrades the database first.

    On SIGTERM the current run stops, and another worker continues it.
    """
    from app.runs.tables import RunLane, RunQueue
    from app.worker.worker import Worker

    wanted, in_lanes = _named(RunQueue, queues, "queue"), _named(RunLane, lanes, "lane")
    settings = Settings()
    configure_logging(settings)
    database = _migrated_database(settings)
    _require_one_installation(database, settings)
    database.close()
    Console().print(f"Xray Screening: waiting for {' and '.join(in_lanes)} runs in {queues}")
    sys.exit(Worker(settings, wanted, lease, in_lanes).work())


@xray.command("worker-alive")
def worker_alive(
    seconds: Annotated[
        float, typer.Option(min=1, help="Age up to which a heartbeat counts.")
    ] = 60.0,
) -> None:
    """Probe: exit with status 1 unless a worker on this machine is alive."""
    from app.runs.heartbeat import alive_here

    if not alive_here(Settings(), seconds):
        raise XrayError(
            f"No worker on this machine has sent a heartbeat for {seconds:.0f} seconds."
        )


def _settings_of_server(host: str) -> Settings:
    """Read the settings; allow many connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    settings = Settings()
    if host in LOOPBACK and settings.allowed_hosts == ["*"]:
        # Only this machine can connect, so another host name means DNS rebinding by a web site.
        return settings.model_copy(update={"allowed_hosts": []})
    return settings


def _migrated_database(settings: Settings) -> "Database":
    from app.migrations import migrated_database

    return migrated_database(settings)


def _require_one_installation(database: "Database", settings: Settings) -> None:
    from app.core.storage import Storage
    from app.screenings.installation import require_one_installation

    require_one_installation(database, Storage.open(settings.effective_storage_url))


def _named(kind: type[Word], names: str, what: str) -> list[Word]:
    """The members of an enumeration that a text names, with commas between."""
    known = {member.value: member for member in kind}
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise XrayError(f"There is no {what} {unknown[0]!r}. Use {' or '.join(known)}.")
    return [known[name] for name in wanted]


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Upgrade the database to the newest schema."""
    _migrated_database(Settings()).close()


def main() -> None:
    """Run the command line; a user's mistake is one line, not a traceback."""
    try:
        # One name for completion, also as `python -m app`.
        xray(prog_name="xray")
    except (XrayError, AppError) as mistake:
        sys.exit(f"xray: {mistake}")
    except ModuleNotFoundError as missing:
        if missing.name in ("app", "ml"):
            raise
        sys.exit(f"xray: {missing.name} is not installed. Install the extras train and worker.")
    except SettingsError as mistake:
        sys.exit(f"xray: settings: {mistake}")
    except ValidationError as mistake:
        faults = "; ".join(
            f"XRAY_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
            if fault["loc"]
            else fault["msg"]
            for fault in mistake.errors()
        )
        sys.exit(f"xray: settings: {faults}")


if __name__ == "__main__":
    main()
