"""A database of version 0.1.0 is upgraded with all its rows, and every page shows them.

`core/version_0_1_0.json` holds the rows that 0.1.0 itself wrote: a GAN trained, images
synthesised, a classifier trained with them, compared, activated and rolled back, screenings of a
visitor and of a clinic, a review, a quiz round, a schedule.
"""

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from fastapi import FastAPI
from sqlalchemy import JSON, Boolean, Connection, DateTime, MetaData, Uuid, func, select
from starlette.testclient import TestClient

from app.accounts.tables import User
from app.accounts.users import open_session
from app.core.database import Database
from app.core.security import SESSION_COOKIE, VISITOR_COOKIE, sign_visitor
from app.core.storage import Storage
from app.datasets.versions import ensure_demonstration
from app.main import create_app
from app.migrations import alembic_config, upgrade
from app.screenings.service import image_key, thumbnail_key
from app.screenings.tables import Screening
from app.settings import Settings

Rows = dict[str, list[dict[str, Any]]]
OLD: Rows = json.loads((Path(__file__).parent / "core" / "version_0_1_0.json").read_text())
VISITOR = next(row["visitor_id"] for row in OLD["screening"] if row["visitor_id"])
RENAMED_TABLES = {"synthetic_film": "synthetic_image"}


def ids(table: str, key: str = "id") -> list[str]:
    """The keys of a table's rows, as they stand in addresses."""
    found = [row[key] for row in OLD[table]]
    return [str(uuid.UUID(one)) if len(str(one)) == 32 else str(one) for one in found]


@pytest.fixture(scope="module")
def upgraded(
    database_url: str, image_bytes: bytes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastAPI]:
    """An application of today on a database and a storage of 0.1.0."""
    settings = Settings(
        _env_file=None,
        home=tmp_path_factory.mktemp("upgraded"),
        database_url=_empty_database_like(database_url, tmp_path_factory),
        decoder_workers=1,
    )
    database = Database(settings.effective_database_url)
    with database.engine.begin() as connection:
        _write_old_rows(connection)
    upgrade(database.engine)
    # As `xray serve` does before it serves.
    with database.session() as session:
        ensure_demonstration(session, settings)
    database.close()
    storage = Storage.open(settings.effective_storage_url)
    for row in OLD["screening"]:
        storage.put(image_key(uuid.UUID(row["id"])), image_bytes)
        storage.put(thumbnail_key(uuid.UUID(row["id"])), image_bytes)
    application = create_app(settings)
    with TestClient(application):
        yield application


def _empty_database_like(url: str, folders: pytest.TempPathFactory) -> str:
    """An empty database of the same kind, since that of the other tests has its tables."""
    if url.startswith("sqlite"):
        return f"sqlite:///{folders.mktemp('database') / 'xray.db'}"
    schema = f"upgrade_{uuid.uuid4().hex[:12]}"
    database = Database(url)
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    database.close()
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"


def _write_old_rows(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "0003")
    schema = MetaData()
    schema.reflect(connection)
    for table in schema.sorted_tables:
        for row in OLD.get(table.name, []):
            values = {name: _value(table.c[name].type, value) for name, value in row.items()}
            connection.execute(table.insert().values(values))


def _value(kind: object, value: Any) -> Any:
    """What the column's type wants, of what SQLite had stored."""
    match kind:
        case JSON() | Boolean() if value is None:
            return None
        case JSON():
            return value
        case Boolean():
            return bool(value)
        case Uuid() if value is not None:
            return uuid.UUID(value)
        case DateTime() if value is not None:
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return value


@pytest.fixture
def browser(upgraded: FastAPI) -> TestClient:
    """The visitor and admin of before, in one browser."""
    services = upgraded.state.services
    with services.database.session() as session:
        admin = session.scalars(select(User).where(User.name == "admin")).one()
        token = open_session(session, admin)
    visitor = sign_visitor(VISITOR, services.settings.signing_key)
    cookies = {SESSION_COOKIE: token, VISITOR_COOKIE: visitor}
    return TestClient(upgraded, follow_redirects=False, cookies=cookies)


def test_no_row_is_lost(upgraded: FastAPI) -> None:
    schema = MetaData()
    with upgraded.state.services.database.engine.connect() as connection:
        schema.reflect(connection)
        for name, rows in OLD.items():
            if name == "user_session":
                continue
            table = schema.tables[RENAMED_TABLES.get(name, name)]
            there = connection.scalar(select(func.count()).select_from(table))
            # Starting registers what is shipped and adds to the audit log.
            assert there is not None
            assert there >= len(rows), name


def test_json_has_the_names_of_today(upgraded: FastAPI) -> None:
    services = upgraded.state.services
    with services.database.sessions() as session:
        connection = session.connection()
        schema = MetaData()
        schema.reflect(connection)
        for table in schema.sorted_tables:
            columns = [column for column in table.c if isinstance(column.type, JSON)]
            for row in connection.execute(select(*columns)).all() if columns else []:
                # What the audit log says of the past is a record, and never changed.
                if table.name != "audit_event":
                    assert not _old_keys(list(row)), table.name


def _old_keys(value: Any) -> set[str]:
    """The keys at any depth that 0.1.0 named by its own words."""
    match value:
        case dict():
            own = {key for key in value if re.search("film|novelty|figures|certificate", key)}
            return own.union(*(_old_keys(inner) for inner in value.values()))
        case list():
            return set().union(*(_old_keys(inner) for inner in value))
    return set()


PAGES = [
    "/",
    "/screenings",
    *(f"/screenings/{row['id']}" for row in OLD["screening"] if row["visitor_id"]),
    "/model",
    *(f"/models/{sha256}" for sha256 in ids("model_version", "sha256")),
    "/gallery",
    *(f"/gallery/{number}" for number in ids("synthetic_film")[:3]),
    "/gallery/quiz",
    "/api",
    "/admin/runs",
    *(f"/admin/runs/{run}{part}" for run in ids("run") for part in ("", "/live")),
    "/admin/schedules",
    "/admin/data",
    *(f"/admin/data/{sha256}" for sha256 in ids("data_version", "sha256")),
    "/admin/models",
    *(f"/admin/models/{sha256}" for sha256 in ids("model_version", "sha256")),
    *(
        f"/admin/models/{row['candidate_sha256']}/compare/{uuid.UUID(row['id'])}"
        for row in OLD["comparison"]
    ),
    "/admin/users",
    "/admin/audit",
]


@pytest.mark.parametrize("address", PAGES)
def test_page_shows_what_was_there(browser: TestClient, address: str) -> None:
    answer = browser.get(address)
    assert answer.status_code == 200, answer.text
    assert "<h1" in answer.text or address.endswith("/live")


def test_screening_and_its_review_are_those_of_before(upgraded: FastAPI) -> None:
    old = OLD["review"][0]
    with upgraded.state.services.database.sessions() as session:
        screening = session.get_one(Screening, uuid.UUID(old["screening_id"]))
        was = next(row for row in OLD["screening"] if row["id"] == old["screening_id"])
        assert screening.probabilities == was["probabilities"]
        assert screening.ood_score == was["novelty"]
        assert screening.image_sha256 == was["film_sha256"]
        assert screening.created_at == datetime.fromisoformat(was["created_at"]).replace(tzinfo=UTC)
