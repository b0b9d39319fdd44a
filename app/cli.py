"""`xray`: the one command line; `ml`'s commands and those of the web application."""

import os
import resource
import signal
import sys
import time
import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.table import Table

from app.accounts.cli import admin_app
from app.core.errors import AppError
from app.registry.cli import model_app
from app.runs.cli import run_app
from app.runs.schedule_cli import schedule_app
from app.settings import Environment, Settings
from ml.commands.main import app as xray
from ml.errors import XrayError

if TYPE_CHECKING:
    from app.core.database import Database
    from app.runs.tables import RunQueue
LOOPBACK = ("127.0.0.1", "localhost", "::1")
key_app = typer.Typer(no_args_is_help=True, help="API keys of clinics.")
db_app = typer.Typer(no_args_is_help=True, help="The database.")
storage_app = typer.Typer(no_args_is_help=True, help="Stored images.")

xray.add_typer(key_app, name="key")

xray.add_typer(db_app, name="db")

xray.add_typer(storage_app, name="storage")

xray.add_typer(run_app, name="run")

xray.add_typer(schedule_app, name="schedule")

xray.add_typer(admin_app, name="admin")

xray.add_typer(model_app, name="model")


@xray.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    forwarded_allow_ips: Annotated[
        str, typer.Option(help="Proxies whose X-Forwarded-* headers are believed.")
    ] = "127.0.0.1",
    worker: Annotated[
        bool, typer.Option(help="Start a worker for long jobs too; never in production.")
    ] = True,
) -> None:
    """Serve the pages and the API; brings the database up to date first."""
    from app.main import create_app
    from app.server import run
    from app.worker.supervisor import can_work, supervised_worker

    settings = _settings_of_server(host)
    console = Console()
    console.print(f"Xray Screening: open [bold]http://{host}:{port}[/bold]")
    database = _migrated_database(settings)
    embedded = settings.environment is Environment.EMBEDDED
    # In production the output is a log that others read: there `xray key create` makes keys, and
    # `xray admin create` admins.
    if embedded:
        _set_up(database, settings, console)
    database.close()
    worker = worker and embedded
    if worker and not can_work():
        console.print("Without a worker for long jobs: pip install -e '.\\[worker,train]'")
    # The server ends in order and then repeats the signal: the worker has to be ended as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with supervised_worker(settings) if worker and can_work() else nullcontext():
        run(
            create_app(settings),
            host=host,
            port=port,
            log_level="warning",
            # The parser that bounds the size of headers.
            http="h11",
            server_header=False,
            forwarded_allow_ips=forwarded_allow_ips,
            timeout_graceful_shutdown=20,
        )


def _set_up(database: "Database", settings: Settings, console: Console) -> None:
    """What a machine needs on its first start; secrets are shown this once."""
    from app.accounts.api_keys import create_first_key
    from app.accounts.users import FIRST_ADMIN, create_first_admin
    from app.datasets.versions import ensure_demonstration

    with database.session() as session:
        key, password = create_first_key(session), create_first_admin(session)
        ensure_demonstration(session, settings)
    if key:
        console.print(f"API key, shown this once: [bold]{key}[/bold]", soft_wrap=True)
    if password:
        console.print(
            f"Sign in as [bold]{FIRST_ADMIN}[/bold] with the password, shown this once: "
            f"[bold]{password}[/bold]",
            soft_wrap=True,
        )


@xray.command()
def worker(
    queues: Annotated[str, typer.Option(help="Which runs to do: cpu, gpu or both.")] = "cpu,gpu",
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds until others take over if this worker dies.")
    ] = 30.0,
) -> None:
    """Do the runs that were started, one after another; brings the database up to date first.

    SIGTERM stops the run in hand, and another worker continues it.
    """
    from app.worker.worker import Worker

    settings = Settings()
    _migrated_database(settings).close()
    Console().print(f"Xray Screening: waiting for runs of {queues}")
    sys.exit(Worker(settings, _queues(queues), lease).work())


@xray.command("worker-alive")
def worker_alive(
    seconds: Annotated[float, typer.Option(min=1, help="How long ago counts as alive.")] = 60.0,
) -> None:
    """Probe: has a worker of this machine looked for runs lately? Exit status 1 if not."""
    from app.runs.heartbeat import alive_file

    path = alive_file(Settings())
    if not path.exists() or time.time() - path.stat().st_mtime > seconds:
        raise XrayError(f"no worker of this machine has looked for runs for {seconds:.0f} s")


def _settings_of_server(host: str) -> Settings:
    """Settings, and a process that keeps its files private and can hold many connections."""
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    settings = Settings()
    if host in LOOPBACK and settings.allowed_hosts == ["*"]:
        # Only this machine can ask: another name in the request is a web site's trick.
        return settings.model_copy(update={"allowed_hosts": []})
    return settings


def _migrated_database(settings: Settings) -> "Database":
    from app.migrations import migrated_database

    return migrated_database(settings)


def _queues(names: str) -> "list[RunQueue]":
    from app.runs.tables import RunQueue

    known = {queue.value: queue for queue in RunQueue}
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in known]:
        raise XrayError(f"no queue is called {unknown[0]!r}: expected {' or '.join(known)}")
    return [known[name] for name in wanted]


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to the newest schema."""
    _migrated_database(Settings()).close()


@key_app.command("create")
def key_create(
    clinic: Annotated[str, typer.Option(help="The clinic's name; a new one is made.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
) -> None:
    """Make a key and print it; it cannot be shown again."""
    from app.accounts.api_keys import create_key

    with _migrated_database(Settings()).session() as session:
        print(create_key(session, clinic, name))


@key_app.command("list")
def key_list() -> None:
    """List keys by the first letters of each."""
    from app.accounts.api_keys import list_keys

    table = Table("id", "clinic", "name", "begins with", "made", "revoked")
    with _migrated_database(Settings()).session() as session:
        for key in list_keys(session):
            revoked = f"{key.revoked_at:%Y-%m-%d}" if key.revoked_at else ""
            made = f"{key.created_at:%Y-%m-%d}"
            table.add_row(str(key.id), key.clinic.name, key.name, key.prefix, made, revoked)
    Console().print(table)


@key_app.command("revoke")
def key_revoke(id: uuid.UUID) -> None:
    """Make a key useless from now on."""
    from app.accounts.api_keys import revoke_key

    with _migrated_database(Settings()).session() as session:
        revoke_key(session, id)


@storage_app.command("sweep")
def storage_sweep() -> None:
    """Remove stored images that no screening names, as a crash may leave them."""
    from app.core.storage import Storage
    from app.screenings.cleanup import sweep

    settings = Settings()
    removed = sweep(_migrated_database(settings), Storage.open(settings.effective_storage_url))
    print(f"removed {removed} file(s) that no screening names")


def main() -> None:
    """Run the command line; a mistake of the user is one line, not a traceback."""
    try:
        xray()
    except (XrayError, AppError) as mistake:
        sys.exit(f"xray: {mistake}")
    except ModuleNotFoundError as missing:
        if missing.name in ("app", "ml"):
            raise
        sys.exit(f"xray: {missing.name} is not installed: pip install -e '.[train,worker]'")
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
