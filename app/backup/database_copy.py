"""Consistent copies of the database: SQLite's online backup, or pg_dump and pg_restore."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy import MetaData, inspect
from sqlalchemy.engine import URL, make_url

from app.backup.manifest import DatabaseKind
from app.backup.snapshots import BackupError
from app.core.database import Database

_LONGEST_S = 24 * 3600


def database_kind(url: str) -> DatabaseKind:
    """Which of the two databases a URL names."""
    return "postgresql" if make_url(url).get_backend_name() == "postgresql" else "sqlite"


def copy_database(url: str, target: Path) -> None:
    """Copy a database that others write to, as it is at one moment, and check the copy.

    Raises:
        BackupError: the copy is damaged, or pg_dump is missing or refuses.
    """
    target.touch(mode=0o600)
    if database_kind(url) == "postgresql":
        _run_postgres_tool("pg_dump", url, "--format=custom", "--no-owner", f"--file={target}")
        _run_postgres_tool("pg_restore", None, "--list", str(target))
        return
    # Opened for writing: what a server that was killed left in the log is part of the database.
    with (
        closing(sqlite3.connect(sqlite_path(url))) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)
        # One file, without a log beside it.
        copy.execute("PRAGMA journal_mode = DELETE")
    check_sqlite(target)


def check_sqlite(path: Path) -> None:
    """Check every page, index and foreign key of an SQLite file.

    Raises:
        BackupError: something is wrong.
    """
    with closing(sqlite3.connect(path)) as connection:
        try:
            found = connection.execute("PRAGMA integrity_check").fetchall()
            found += connection.execute("PRAGMA foreign_key_check").fetchall()
        except sqlite3.DatabaseError as problem:
            raise BackupError(f"{path} is not a sound database: {problem}") from problem
    if found != [("ok",)]:
        raise BackupError(f"{path} is not a sound database: {found[:3]}")


def put_database(url: str, copy: Path) -> None:
    """Replace the database by a copy.

    Raises:
        BackupError: the copy is damaged, or pg_restore is missing or refuses.
    """
    if database_kind(url) == "postgresql":
        _drop_tables(url)
        options = ("--no-owner", "--exit-on-error", "--single-transaction")
        _run_postgres_tool("pg_restore", url, *options, str(copy))
        return
    path = sqlite_path(url)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.restored")
    shutil.copyfile(copy, unfinished)
    unfinished.chmod(0o600)
    check_sqlite(unfinished)
    # A log of the database that was there would be taken for one of the copy.
    for beside in (f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(beside).unlink(missing_ok=True)
    unfinished.replace(path)


def holds_tables(url: str) -> bool:
    """Whether there is anything in the database; one that does not exist is not created."""
    if database_kind(url) == "sqlite":
        return sqlite_path(url).exists()
    database = Database(url)
    try:
        return bool(inspect(database.engine).get_table_names())
    finally:
        database.close()


def sqlite_path(url: str) -> Path:
    """The file of an SQLite database."""
    return Path(make_url(url).database or "")


def _drop_tables(url: str) -> None:
    database, found = Database(url), MetaData()
    try:
        found.reflect(database.engine)
        found.drop_all(database.engine)
    finally:
        database.close()


def _run_postgres_tool(tool: str, url: str | None, *arguments: str) -> None:
    """Run a client program of PostgreSQL; the password is not among its arguments."""
    connection, environment = _connection(make_url(url)) if url else ((), dict(os.environ))
    try:
        subprocess.run(
            [tool, *connection, *arguments],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
        )
    except FileNotFoundError as problem:
        raise BackupError(
            f"{tool} is not installed. Install the PostgreSQL client of the server's version."
        ) from problem
    except subprocess.CalledProcessError as problem:
        raise BackupError(f"{tool} failed: {problem.stderr.strip()}") from problem


def _connection(url: URL) -> tuple[tuple[str, ...], dict[str, str]]:
    environment = dict(os.environ)
    if url.password:
        environment["PGPASSWORD"] = str(url.password)
    # `URL.set` takes None for "unchanged".
    plain = URL.create(
        "postgresql", url.username, None, url.host, url.port, url.database, url.query
    )
    return (f"--dbname={plain.render_as_string(hide_password=False)}",), environment
