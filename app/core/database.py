"""Engine, session and declarative base."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    CursorResult,
    DateTime,
    Dialect,
    Engine,
    Enum,
    MetaData,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects import postgresql as postgresql_dialect
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.engine import make_url
from sqlalchemy.orm import (
    DeclarativeBase,
    Session,
    sessionmaker,
)
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.types import TypeDecorator

_INSERTED_AT_ONCE = 1000
# Constraints with predictable names can be changed by a migration on every database.
_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time: always aware and in UTC, also on SQLite, which knows no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """What a column of this type holds."""
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("The time has no time zone. Give it one.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all rows."""

    metadata = MetaData(naming_convention=_NAMING)


def make_engine(url: str) -> Engine:
    """Connect lazily to SQLite or PostgreSQL."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        # psycopg 3, whatever the URL of the hosting company says.
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            # A logged error must not carry visitor ids or share tokens.
            hide_parameters=True,
            pool_size=10,
            max_overflow=30,
        )
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 10}, pool_size=40, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    cursor = connection.cursor()
    # Readers and one writer at a time do not block each other.
    cursor.execute("PRAGMA journal_mode = WAL")
    # An answer that was sent survives a power cut.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    # What was deleted is overwritten.
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def insert_unless_there(session: Session, row: Base) -> bool:
    """Insert a row of which every column is set, unless one with its key exists.

    A concurrent insert of the same key is waited for; False where that one was first.
    """
    values = {name: getattr(row, name) for name in row.__table__.columns.keys()}  # noqa: SIM118
    statement = _insert_ignore(session, type(row)).values(values)
    # psycopg counts no rows of an insert, so it is asked what it inserted.
    return session.execute(statement.returning(*row.__table__.primary_key)).first() is not None


def insert_ignore(session: Session, table: type[Base], rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert many rows in batches, except those that conflict with a row that exists."""
    statement = _insert_ignore(session, table)
    left = iter(rows)
    while batch := [dict(row) for row in islice(left, _INSERTED_AT_ONCE)]:
        session.execute(statement, batch)


def _insert_ignore(
    session: Session, table: type[Base]
) -> postgresql_dialect.Insert | sqlite_dialect.Insert:
    if session.get_bind().dialect.name == "postgresql":
        return postgresql_dialect.insert(table).on_conflict_do_nothing()
    return sqlite_dialect.insert(table).on_conflict_do_nothing()


class Database:
    """The engine and its sessions."""

    def __init__(self, url: str):
        self.engine = make_engine(url)
        self.sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session that commits at the end and rolls back on an error."""
        with self.sessions.begin() as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)


def database_time(session: Session) -> datetime:
    """The present time by the database's clock, which all machines share.

    SQLite has no clock: its file is on this machine, and so are all its users.
    """
    if session.get_bind().dialect.name != "postgresql":
        return now()
    # Not `now()`, which is when the transaction began.
    present: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return present


def enum_values(kind: type[StrEnum]) -> Enum:
    """Plain text in the database, so a further word is no change of a type."""
    return Enum(
        kind, native_enum=False, length=20, values_callable=lambda words: [str(w) for w in words]
    )


def affected_rows(session: Session, statement: UpdateBase) -> int:
    """Execute an UPDATE or DELETE and count its rows; objects in the session are not refreshed."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount
