"""A registration that ends between its files and its commit: nothing of it is there, or all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.database import Database
from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import register_data
from app.registry.registration import register_classifier
from app.registry.tables import ModelVersion
from app.settings import Settings
from tests.app.datasets.test_datasets import contents, make_folder
from tests.support.tiny_models import DATABASES, own_database, settings_for, write_classifier

Register = Callable[[Session, Settings, Path], DataVersion | ModelVersion]


class Crash(Exception):
    """The process that registers dies."""


@pytest.fixture(params=DATABASES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with own_database(request.param, tmp_path) as url:
        yield settings_for(url, tmp_path / "home")


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.effective_database_url)
    yield database
    database.close()


def make_bundle(folder: Path) -> None:
    write_classifier(folder, version="2", answer="normal")


def register_images(session: Session, settings: Settings, source: Path) -> DataVersion:
    return register_data(session, settings, source, name="x", kind=DataKind.IMAGES, by="test")


def register_bundle(session: Session, settings: Settings, source: Path) -> ModelVersion:
    return register_classifier(session, settings, source, run=None, by="test")


def count(database: Database, table: type[Any]) -> int:
    with database.sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.mark.parametrize(
    ("make", "register", "table"),
    [(make_folder, register_images, DataVersion), (make_bundle, register_bundle, ModelVersion)],
)
def test_registration_that_crashed_before_its_commit_is_done_again(
    settings: Settings,
    database: Database,
    tmp_path: Path,
    make: Callable[[Path], None],
    register: Register,
    table: type[Any],
) -> None:
    source = tmp_path / "source"
    make(source)
    whole = contents(source)

    def crash(_session: Session) -> None:
        raise Crash

    with database.sessions() as session:
        event.listen(session, "before_commit", crash)
        place = settings.home.resolve() / str(register(session, settings, source).folder)
        assert contents(place) == whole
        with pytest.raises(Crash):
            session.commit()
    assert (count(database, table), count(database, AuditEvent)) == (0, 0)
    assert contents(source) == whole
    # The disk had not kept all of it.
    next(path for path in place.rglob("*") if path.is_file()).write_bytes(b"cut sho")

    with database.session() as session:
        register(session, settings, source)
    assert (count(database, table), count(database, AuditEvent)) == (1, 1)
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert contents(place) == whole
