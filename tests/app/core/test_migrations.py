"""Migrations keep the rows that are there, on each kind of database, there and back."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, MetaData, Table, select

from app.core.database import Base, Database
from app.migrations import alembic_config, upgrade
from ml.imaging.image_warnings import read_warnings
from tests.conftest import leave_out
from tests.support.postgres import fresh_database

Rows = dict[str, list[dict[str, Any]]]
# One value for each type, so that references find the one row of their table.
VALUES: dict[type, Any] = {
    str: "x",
    int: 1,
    float: 0.5,
    bool: True,
    object: {"a": [1]},  # JSON
    uuid.UUID: uuid.UUID(int=7),
    datetime: datetime(2026, 11, 24, tzinfo=UTC),
}
# Of two owners, a row has one.
LEFT_OUT = {"screening": "clinic_id", "review": "clinic_id"}

RENAMED_IN_0004 = {
    "run": {"kind": "run_type"},
    "screening": {
        "novelty": "ood_score",
        **{
            f"film_{name}": f"image_{name}"
            for name in ("sha256", "type", "format", "width", "height", "bits", "metadata")
        },
    },
}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    if request.param == "sqlite":
        empty = Database(f"sqlite:///{tmp_path / 'xray.db'}")
        yield empty
        empty.close()
        return
    with fresh_database() as url:
        if url is None:
            leave_out("no PostgreSQL server here, and none that could be started")
        empty = Database(str(url))
        yield empty
        empty.close()


def migrate(database: Database, to: str) -> None:
    config = alembic_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        forward = to == "head" or not _tables(connection)
        (command.upgrade if forward else command.downgrade)(config, to)


def _tables(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def fill(database: Database) -> None:
    """Give each table a row with all its columns, and the rows that are there their new ones."""
    with database.engine.begin() as connection:
        tables = _tables(connection)
        rows = {table.name: dict(_row(table)) for table in tables}
        there = {table for table in tables if connection.execute(select(table)).first()}
        for table in tables:
            if table not in there:
                connection.execute(table.insert().values(rows[table.name]))
        for table in there:
            connection.execute(table.update().values(rows[table.name]))


def _row(table: Table) -> Iterator[tuple[str, Any]]:
    for column in table.columns:
        if LEFT_OUT.get(table.name) != column.name:
            yield column.name, _value(column)


def _value(column: Column[Any]) -> Any:
    return VALUES[column.type.python_type]


def read(database: Database) -> Rows:
    with database.engine.begin() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in _tables(connection)
        }


def test_rows_outlast_the_way_there_and_back(database: Database) -> None:
    migrate(database, "0002")
    fill(database)
    before = read(database)
    assert {"clinic", "api_key", "model_version", "screening", "run"} <= before.keys()
    assert all(len(rows) == 1 for rows in before.values())

    migrate(database, "head")
    after = read(database)
    for name, (row,) in before.items():
        renamed = RENAMED_IN_0004.get(name, {})
        expected = {renamed.get(column, column): value for column, value in row.items()}
        assert after[name][0].items() >= expected.items()
    assert (after["run"][0]["result"], after["model_version"][0]["kind"]) == ({}, "classifier")

    fill(database)
    assert all(len(rows) == 1 for rows in read(database).values())
    migrate(database, "0002")
    assert read(database) == before

    migrate(database, "head")
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    migrate(database, "base")
    assert read(database) == {}


def test_log_says_in_one_line_what_an_upgrade_came_to(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="app.migrations")
    upgrade(database.engine)
    (created,) = caplog.messages
    assert created.startswith("created the database at schema ")
    newest = created.rsplit(maxsplit=1)[-1]
    migrate(database, "0013")
    upgrade(database.engine)
    upgrade(database.engine)
    assert caplog.messages[1:] == [f"upgraded the database from schema 0013 to {newest}"]


def test_sentences_of_warnings_become_codes(database: Database) -> None:
    migrate(database, "0012")
    fill(database)
    sentences = (
        "The DICOM modality does not say that this is an X-ray image. Check that it shows a chest "
        "X-ray. The image looked rotated. It was turned upright before the prediction."
    )
    metadata = {"Modality": "OT", "Warnings": sentences}
    with database.engine.begin() as connection:
        table = next(one for one in _tables(connection) if one.name == "screening")
        connection.execute(table.update().values(image_metadata=metadata))
    migrate(database, "head")
    row = read(database)["screening"][0]
    assert row["image_metadata"] == {"Modality": "OT"}
    assert row["warnings"] == [
        {"code": "rotated", "parameters": {"shown-as-sent": "yes"}},
        {"code": "not-an-x-ray-modality", "parameters": {"modality": "OT"}},
    ]
    assert "shown as it was sent" in read_warnings(row["warnings"])[0].text
