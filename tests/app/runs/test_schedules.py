"""Runs that are started at a time of day: one for each slot, however many workers look."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import delete, select

from app.core.audit import AuditEvent
from app.core.database import Database
from app.core.errors import InvalidForm, NotFound
from app.datasets.tables import DataVersion
from app.migrations import upgrade
from app.registry.tables import ModelKind, ModelVersion
from app.runs import schedules
from app.runs.run_types import RUN_TYPES
from app.runs.tables import Run, RunQueue, RunStatus, Schedule
from tests.support.synthetic_set import data_version

TUESDAY = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    upgrade(database.engine)
    yield database
    with database.session() as session:
        session.execute(delete(Run))
        session.execute(delete(Schedule))
        session.execute(delete(DataVersion).where(DataVersion.created_by == "schedules"))
        session.execute(delete(ModelVersion).where(ModelVersion.version == "schedules"))
    database.close()


@pytest.fixture
def data(tmp_path: Path) -> str:
    (tmp_path / "manifest.csv").touch()
    return str(tmp_path)


def at(hour: int, minute: int = 0, *, days: int = 0) -> datetime:
    return TUESDAY + timedelta(days=days, hours=hour, minutes=minute)


def nightly(database: Database, data: str, **details: Any) -> Schedule:
    """A schedule that was made on Tuesday at midnight."""
    options = details.pop("options", {"data": data, "epochs": 2})
    run_type = details.pop("run_type", "train-classifier")
    default = schedules.Timing()
    timing = schedules.Timing(
        details.pop("at", default.at), details.pop("weekdays", default.weekdays)
    )
    with database.session() as session:
        schedule = schedules.create_schedule(
            session,
            details.pop("name", "retrain"),
            run_type,
            options,
            timing=timing,
            by="test",
            **details,
        )
        schedule.enabled_at = TUESDAY
    return schedule


def start(database: Database, when: datetime) -> list[str | None]:
    """Start what is due; the slots."""
    return [run.slot for run in schedules.start_due(database, when)]


def test_run_is_started_at_its_time_once(database: Database, data: str) -> None:
    schedule = nightly(database, data, at="02:30", queue=RunQueue.GPU, priority=3)
    assert start(database, at(2, 29)) == []
    assert start(database, at(2, 30)) == ["2026-11-24T02:30"]
    assert start(database, at(2, 30)) == []
    assert start(database, at(23)) == []
    assert start(database, at(2, 31, days=1)) == ["2026-11-25T02:30"]
    with database.session() as session:
        run = session.scalars(select(Run).order_by(Run.slot)).first()
    assert run
    assert (run.run_type, run.queue, run.priority) == ("train-classifier", RunQueue.GPU, 3)
    assert (run.schedule_id, run.requested_by) == (schedule.id, "schedule:retrain")
    assert (run.options["epochs"], run.options["data"]) == (2, data)


def test_only_the_newest_of_the_missed_times_is_made_up_for(database: Database, data: str) -> None:
    nightly(database, data)
    assert start(database, at(9, days=5)) == ["2026-11-29T02:00"]
    assert start(database, at(9, days=5)) == []


def test_days_of_the_week_are_kept_to(database: Database, data: str) -> None:
    schedule = nightly(database, data, weekdays="53")
    assert schedule.weekdays == "35"  # Thursday and Saturday
    assert start(database, at(9, days=1)) == []
    assert start(database, at(9, days=2)) == ["2026-11-26T02:00"]
    assert start(database, at(9, days=3)) == []
    assert start(database, at(1, days=8)) == ["2026-11-28T02:00"]
    assert schedules.next_slot(schedule, at(2)) == at(2, days=2)
    assert schedules.next_slot(schedule, at(2, days=2)) == at(2, days=4)
    assert schedules.next_slot(schedule, at(3, days=4)) == at(2, days=9)


def test_many_workers_start_one_run(database: Database, data: str) -> None:
    nightly(database, data)
    barrier = Barrier(6)

    def look(_: int) -> int:
        barrier.wait()
        return len(schedules.start_due(database, at(3)))

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(look, range(6))) == 1
    with database.session() as session:
        assert len(session.scalars(select(Run)).all()) == 1


def test_disabled_schedule_rests_and_makes_up_for_nothing(database: Database, data: str) -> None:
    schedule = nightly(database, data)
    with database.session() as session:
        schedules.disable_schedule(
            session, schedules.find_schedule(session, schedule.id), by="somebody"
        )
    assert start(database, at(3)) == []
    with database.session() as session:
        found = schedules.find_schedule(session, schedule.id)
        schedules.enable_schedule(session, found, by="somebody")
        found.enabled_at = at(4)
    assert start(database, at(5)) == []
    assert start(database, at(3, days=1)) == ["2026-11-25T02:00"]
    with database.session() as session:
        events = session.scalars(
            select(AuditEvent.action)
            .where(AuditEvent.subject == str(schedule.id))
            .order_by(AuditEvent.at)
        ).all()
    assert events == ["schedule.created", "schedule.disabled", "schedule.enabled"]


def test_deleted_schedule_leaves_its_runs(database: Database, data: str) -> None:
    schedule = nightly(database, data)
    start(database, at(3))
    with database.session() as session:
        schedules.delete_schedule(
            session, schedules.find_schedule(session, schedule.id), by="somebody"
        )
    assert start(database, at(3, days=1)) == []
    with database.session() as session:
        run = session.scalars(select(Run)).one()
        assert (run.schedule_id, run.slot) == (None, "2026-11-24T02:00")
        with pytest.raises(NotFound):
            schedules.find_schedule(session, schedule.id)


def test_schedule_of_a_archived_model_fails_visibly_and_once_for_each_time(
    database: Database, data: str
) -> None:
    sha256 = uuid.uuid4().hex * 2
    model = ModelVersion(
        sha256=sha256,
        kind=ModelKind.CLASSIFIER,
        version="schedules",
        card={},
        parents=[],
        folder="models/x",
    )
    with database.session() as session:
        session.add(model)
    nightly(
        database, data, run_type="evaluate-classifier", options={"data": data, "bundle": sha256}
    )
    with database.session() as session:
        session.get_one(ModelVersion, sha256).archived_at = TUESDAY
    assert start(database, at(3)) == []
    assert start(database, at(4)) == []
    with database.session() as session:
        run = session.scalars(select(Run)).one()
    assert run.status is RunStatus.FAILED
    assert run.reason == "Not started: bundle: schedules is archived. Choose another one"


def test_kind_of_a_newer_version_is_left_to_a_newer_worker(
    database: Database, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly(database, data)
    with monkeypatch.context() as older:
        older.delitem(RUN_TYPES, "train-classifier")
        assert start(database, at(3)) == []
    assert start(database, at(3)) == ["2026-11-24T02:00"]


def test_data_set_that_has_grown_is_taken_as_it_is_now(database: Database, data: str) -> None:
    first, second, third, other = (uuid.uuid4().hex * 2 for _ in range(4))
    parents = {first: None, second: first, third: second, other: None}
    with database.session() as session:
        for sha256, parent in parents.items():
            session.add(
                data_version(sha256, images=1, created_by="schedules", parent_sha256=parent)
            )
            session.flush()
    nightly(database, data, options={"data": first})
    start(database, at(3))
    with database.session() as session:
        run = session.scalars(select(Run)).one()
    assert (run.options["data"], run.data_sha256) == (third, third)


def test_senseless_schedule_is_refused_with_all_its_faults(database: Database, data: str) -> None:
    nightly(database, data)
    with database.session() as session, pytest.raises(InvalidForm) as refusal:
        schedules.create_schedule(
            session,
            " retrain ",
            "train-classifier",
            {"data": data, "epochs": 0},
            timing=schedules.Timing("24:00", "7"),
            by="test",
        )
    assert refusal.value.faults == {
        "name": "There is already a schedule 'retrain'. Enter another name.",
        "at": "Enter a time of day in UTC, such as 02:00, not '24:00'.",
        "weekdays": "Choose at least one day of the week.",
        "epochs": "Expected a whole number of 1 or more, got 0.",
    }
    with database.session() as session, pytest.raises(InvalidForm, match="1 to 80 characters"):
        schedules.create_schedule(session, " ", "train-classifier", {"data": data}, by="test")
