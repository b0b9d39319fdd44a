"""The life of a run in the database, on each kind of database."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, select

from app.core.audit import AuditEvent
from app.core.database import Base, Database, now
from app.core.errors import Conflict, NotFound
from app.migrations import upgrade
from app.runs import queue as runs
from app.runs.celery_broker import create_celery, publish
from app.runs.handlers.train_classifier import NamedClassifierOptions
from app.runs.progress import RunProgress, read_progress
from app.runs.queue import Lease, RunEnded
from app.runs.run_types import RUN_TYPES, lane_of
from app.runs.service import create_run
from app.runs.tables import Run, RunQueue, RunStatus
from app.settings import Settings
from tests.faults import stand_in

LONG_S = 60.0
EXPIRED_S = -1.0


@pytest.fixture
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database without runs, and one more kind of run."""
    monkeypatch.setitem(RUN_TYPES, stand_in.StandIn.name, stand_in.StandIn())
    database = Database(database_url)
    upgrade(database.engine)
    yield database
    with database.session() as session:
        session.execute(delete(Run))
    database.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "manifest.csv").touch()
    return tmp_path


def create(database: Database, data: Path, **details: Any) -> uuid.UUID:
    with database.session() as session:
        run = create_run(
            session,
            stand_in.StandIn.name,
            {"data": data},
            requested_by="test",
            **details,
        )
    return run.id


def claim(database: Database, run_id: uuid.UUID, owner: str, lease_s: float = LONG_S) -> Run | None:
    with database.session() as session:
        return runs.claim(session, run_id, owner, lease_s)


def fetch(database: Database, run_id: uuid.UUID) -> Run:
    with database.session() as session:
        return runs.get_run(session, run_id)


def reap(database: Database) -> list[uuid.UUID]:
    with database.session() as session:
        return runs.reap(session)


def test_migrations_make_the_tables_that_the_models_describe(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []


def test_new_run_waits_with_all_its_options(database: Database, data: Path) -> None:
    with database.session() as session:
        created = create_run(
            session,
            "train-classifier",
            {"data": str(data), "epochs": "3", "learning_rate": 0.01},
            requested_by="somebody",
            queue=RunQueue.GPU,
        )
    run = fetch(database, created.id)
    expected = NamedClassifierOptions(epochs=3, learning_rate=0.01)
    assert run.options == {"data": str(data), "synthetic": []} | {
        field.name: getattr(expected, field.name) for field in fields(expected)
    }
    assert (run.status, run.queue, run.attempts) == (RunStatus.QUEUED, RunQueue.GPU, 0)
    with database.session() as session:
        event = session.scalar(select(AuditEvent).where(AuditEvent.subject == str(run.id)))
    assert event is not None
    assert (event.actor, event.action) == ("somebody", "run.created")


def test_of_two_owners_at_once_one_wins(database: Database, data: Path) -> None:
    for _ in range(5):
        run_id, start = create(database, data), Barrier(8)

        def take(owner: int, run_id: uuid.UUID = run_id, start: Barrier = start) -> Run | None:
            start.wait()
            return claim(database, run_id, f"owner {owner}")

        with ThreadPoolExecutor(8) as threads:
            won = [run for run in threads.map(take, range(8)) if run]
        assert len(won) == 1
        run = fetch(database, run_id)
        assert (run.status, run.attempts) == (RunStatus.RUNNING, 1)
        assert run.lease_owner == won[0].lease_owner


def test_workers_at_once_take_different_runs(database: Database, data: Path) -> None:
    created = {create(database, data) for _ in range(6)}
    start = Barrier(6)

    def take(owner: int) -> uuid.UUID | None:
        start.wait()
        with database.session() as session:
            run = runs.claim_next(session, list(RunQueue), f"owner {owner}", LONG_S)
        return run.id if run else None

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(take, range(6))) == created


def test_higher_priority_goes_first_then_age_and_only_in_own_queues(
    database: Database, data: Path
) -> None:
    old, new = create(database, data), create(database, data)
    urgent = create(database, data, priority=5)
    create(database, data, priority=9, queue=RunQueue.GPU)
    with database.session() as session:
        assert runs.next_queued(session, [RunQueue.CPU], limit=9) == [urgent, old, new]
        taken = [runs.claim_next(session, [RunQueue.CPU], "worker", LONG_S) for _ in range(4)]
    assert [run.id if run else None for run in taken] == [urgent, old, new, None]


def test_kind_that_this_version_does_not_know_is_left_alone(
    database: Database, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(database, data)
    monkeypatch.delitem(RUN_TYPES, stand_in.StandIn.name)
    with database.session() as session:
        assert runs.claim_next(session, list(RunQueue), "old worker", LONG_S) is None


def test_held_run_is_not_taken(database: Database, data: Path) -> None:
    run_id = create(database, data)
    assert claim(database, run_id, "first")
    assert claim(database, run_id, "second") is None
    assert reap(database) == []


def test_expired_run_is_taken_and_its_first_owner_refused(database: Database, data: Path) -> None:
    run_id = create(database, data)
    assert claim(database, run_id, "first", EXPIRED_S)
    assert claim(database, run_id, "second")
    with database.session() as session:
        assert runs.renew(session, run_id, "first", LONG_S) is Lease.LOST
        assert not runs.record(session, run_id, "first", RunProgress(step=9), "late")
        assert not runs.finish_run(session, run_id, "first")
        assert not runs.fail(session, run_id, "first", "late")
        assert not runs.fail(session, run_id, "first", "late", try_again=True)
        assert not runs.give_back(session, run_id, "first")
        assert not runs.confirm_cancel(session, run_id, "first")
        assert runs.renew(session, run_id, "second", LONG_S) is Lease.HELD
    run = fetch(database, run_id)
    assert (run.status, run.lease_owner, run.progress) == (RunStatus.RUNNING, "second", {})
    assert run.attempts == 2


def test_expired_lease_can_be_renewed_while_nobody_took_over(
    database: Database, data: Path
) -> None:
    run_id = create(database, data)
    claim(database, run_id, "owner", EXPIRED_S)
    with database.session() as session:
        assert runs.renew(session, run_id, "owner", LONG_S) is Lease.HELD
    assert reap(database) == []


def test_finished_run_keeps_its_progress_and_takes_no_more(database: Database, data: Path) -> None:
    run_id = create(database, data)
    claim(database, run_id, "owner")
    progress = RunProgress(step=3, of=9, metrics={"loss": 0.5})
    with database.session() as session:
        assert runs.record(session, run_id, "owner", progress, "x\0" * runs.MAX_LOG_TAIL)
        assert runs.finish_run(session, run_id, "owner")
        assert not runs.fail(session, run_id, "owner", "too late")
    run = fetch(database, run_id)
    assert (run.status, run.progress, run.lease_owner) == (
        RunStatus.SUCCEEDED,
        progress.model_dump(mode="json"),
        None,
    )
    assert run.log_tail == "x" * runs.MAX_LOG_TAIL
    assert run.finished_at is not None
    assert run.finished_at >= run.created_at
    assert claim(database, run_id, "another") is None


def test_reaped_run_waits_again_until_its_attempts_are_used_up(
    database: Database, data: Path
) -> None:
    run_id = create(database, data, max_attempts=2)
    other = create(database, data)
    claim(database, other, "alive")
    claim(database, run_id, "dies", EXPIRED_S)
    assert reap(database) == [run_id]
    assert fetch(database, run_id).status is RunStatus.QUEUED
    claim(database, run_id, "dies again", EXPIRED_S)
    assert reap(database) == []
    run = fetch(database, run_id)
    assert (run.status, run.reason) == (
        RunStatus.FAILED,
        "The worker stopped responding. No attempt is left.",
    )
    assert run.finished_at is not None
    assert fetch(database, other).status is RunStatus.RUNNING


def test_vanished_workers_do_not_end_a_run_that_advances(database: Database, data: Path) -> None:
    run_id = create(database, data, max_attempts=2)
    for number in range(5):
        claim(database, run_id, f"owner {number}")
        step = float(number + 1)
        with database.session() as session:
            progress = RunProgress(step=step, checkpoint_step=step)
            assert runs.record(session, run_id, f"owner {number}", progress, "")
            assert runs.renew(session, run_id, f"owner {number}", EXPIRED_S) is runs.Lease.HELD
        assert reap(database) == [run_id]
    # Without a further checkpoint two are left, the last one and one more.
    claim(database, run_id, "repeats", EXPIRED_S)
    assert reap(database) == []
    assert fetch(database, run_id).status is RunStatus.FAILED


def test_claiming_a_run_without_attempts_fails_it(database: Database, data: Path) -> None:
    run_id = create(database, data, max_attempts=1)
    claim(database, run_id, "dies", EXPIRED_S)
    assert claim(database, run_id, "second") is None
    assert fetch(database, run_id).status is RunStatus.FAILED


def test_killed_attempt_is_repeated_and_a_mistake_is_not(database: Database, data: Path) -> None:
    killed, mistaken = create(database, data, max_attempts=2), create(database, data)
    for run_id in (killed, mistaken):
        claim(database, run_id, "owner")
    with database.session() as session:
        assert runs.fail(session, killed, "owner", "killed", try_again=True)
        assert runs.fail(session, mistaken, "owner", "no such network")
    assert fetch(database, killed).status is RunStatus.QUEUED
    run = fetch(database, mistaken)
    assert (run.status, run.reason) == (RunStatus.FAILED, "no such network")
    claim(database, killed, "owner 2")
    with database.session() as session:
        assert runs.fail(session, killed, "owner 2", "killed", try_again=True)
    run = fetch(database, killed)
    assert (run.status, run.reason) == (RunStatus.FAILED, "killed. No attempt is left.")


def test_run_given_back_has_its_attempt_again(database: Database, data: Path) -> None:
    run_id = create(database, data)
    claim(database, run_id, "owner")
    with database.session() as session:
        assert runs.give_back(session, run_id, "owner")
    run = fetch(database, run_id)
    assert (run.status, run.attempts, run.lease_owner) == (RunStatus.QUEUED, 0, None)


def test_waiting_run_is_cancelled_at_once(database: Database, data: Path) -> None:
    run_id = create(database, data)
    with database.session() as session:
        run = runs.request_cancel(session, run_id, requested_by="test")
    assert run.status is RunStatus.CANCELLED
    assert run.finished_at is not None
    assert run.finished_at <= now()
    assert claim(database, run_id, "owner") is None
    with database.session() as session, pytest.raises(RunEnded, match="it is cancelled"):
        runs.request_cancel(session, run_id, requested_by="test")


def test_owner_of_a_running_run_learns_that_it_is_to_stop(database: Database, data: Path) -> None:
    run_id = create(database, data)
    claim(database, run_id, "owner")
    with database.session() as session:
        run = runs.request_cancel(session, run_id, requested_by="test")
        assert (run.status, run.finished_at) == (RunStatus.RUNNING, None)
        assert runs.renew(session, run_id, "owner", LONG_S) is Lease.CANCELLED
        assert runs.renew(session, run_id, "stranger", LONG_S) is Lease.LOST
        assert runs.confirm_cancel(session, run_id, "owner")
    assert fetch(database, run_id).status is RunStatus.CANCELLED


@pytest.mark.parametrize("end", ["killed", "vanished", "given back"])
def test_run_to_be_cancelled_does_not_wait_again(database: Database, data: Path, end: str) -> None:
    run_id = create(database, data)
    claim(database, run_id, "owner", EXPIRED_S if end == "vanished" else LONG_S)
    with database.session() as session:
        runs.request_cancel(session, run_id, requested_by="test")
        if end == "killed":
            assert runs.fail(session, run_id, "owner", "killed", try_again=True)
        elif end == "given back":
            assert runs.give_back(session, run_id, "owner")
        else:
            assert runs.reap(session) == []
    assert fetch(database, run_id).status is RunStatus.CANCELLED


def test_unknown_run(database: Database) -> None:
    run_id = uuid.uuid4()
    assert claim(database, run_id, "owner") is None
    with database.session() as session, pytest.raises(NotFound):
        runs.get_run(session, run_id)
    with database.session() as session, pytest.raises(NotFound):
        runs.request_cancel(session, run_id, requested_by="test")


def test_failed_or_cancelled_run_goes_on_with_all_its_attempts(
    database: Database, data: Path
) -> None:
    failed, cancelled = create(database, data, max_attempts=1), create(database, data)
    claim(database, failed, "owner")
    with database.session() as session:
        runs.fail(session, failed, "owner", "no room on the disk")
        runs.request_cancel(session, cancelled, requested_by="test")
        for run_id in (failed, cancelled):
            run = runs.resume(session, run_id, requested_by="test")
            assert (run.status, run.attempts, run.reason) == (RunStatus.QUEUED, 0, None)
            assert (run.finished_at, run.cancel_requested_at) == (None, None)
        with pytest.raises(Conflict, match="is queued"):
            runs.resume(session, failed, requested_by="test")
    assert claim(database, failed, "owner 2")


def test_run_whose_upload_went_with_it_does_not_go_on(database: Database, data: Path) -> None:
    run_id = create(database, data)
    with database.session() as session:
        run = runs.get_run(session, run_id)
        run.options = run.options | {"upload": str(uuid.uuid4())}
        session.flush()
        runs.request_cancel(session, run_id, requested_by="test")
        with pytest.raises(Conflict, match="Upload it again"):
            runs.resume(session, run_id, requested_by="test")
    assert fetch(database, run_id).status is RunStatus.CANCELLED


def test_progress_is_that_of_the_last_whole_row(tmp_path: Path) -> None:
    run = Run(run_type="train-classifier", options={"epochs": 12}, progress={"step": 1})
    assert read_progress(tmp_path, run) == RunProgress(step=1)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(
        '{"epoch": 1}\n{"epoch": 2, "train_loss": NaN, "seconds": 60.0}\n{"epoch": 3, "tr'
    )
    found = read_progress(tmp_path, run)
    assert found.first_step_at
    assert found.last_step_at
    assert found.model_copy(update={"first_step_at": None, "last_step_at": None}) == RunProgress(
        step=2, of=12, eta_s=600.0, steps_s=60.0, metrics={"train_loss": None, "seconds": 60.0}
    )
    # A later look at the same step keeps the times, a look at the next one the first.
    run.progress = found.model_dump(mode="json")
    assert read_progress(tmp_path, run) == found
    metrics.write_text('{"epoch": 3}\n')
    later = read_progress(tmp_path, run)
    assert later.first_step_at == found.first_step_at
    assert later.last_step_at != found.last_step_at
    run.progress = {"step": 1}
    for odd in ('{"epoch": 2, "tr{"epoch": 3}\n', '{"note": "no step"}\n', "[3]\n"):
        metrics.write_text(odd)
        assert read_progress(tmp_path, run) == RunProgress(step=1)


def test_progress_of_a_program_that_says_how_many_steps_there_are(tmp_path: Path) -> None:
    run = Run(run_type="synthesize", options={}, progress={})
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 20, "of": 80, "seconds": 10.0, "images_per_second": 2.0}\n'
    )
    progress = read_progress(tmp_path, run)
    assert (progress.step, progress.of, progress.eta_s) == (20, 80, 30.0)
    assert progress.images_per_second == 2.0


def test_lease_goes_by_the_clock_of_the_database(
    database: Database, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.engine.dialect.name == "sqlite":
        return  # its users are all on one machine
    run_id = create(database, data)
    # The clock of this worker is an hour ahead.
    monkeypatch.setattr(runs, "now", lambda: now() + timedelta(hours=1))
    monkeypatch.setattr("app.core.database.now", lambda: now() + timedelta(hours=1))
    with database.session() as session:
        assert runs.claim(session, run_id, "ahead", EXPIRED_S)
    # It was killed; another worker need not wait for an hour.
    with database.session() as session:
        run = runs.claim(session, run_id, "other", LONG_S)
        assert run is not None
        assert run.lease_until is not None
        assert run.lease_until < now() + timedelta(seconds=2 * LONG_S)
        assert runs.renew(session, run_id, "other", LONG_S) is Lease.HELD
        renewed = runs.get_run(session, run_id).lease_until
        assert renewed is not None
        assert renewed < now() + timedelta(seconds=2 * LONG_S)


@pytest.mark.parametrize(
    ("run_type", "queue", "name"),
    [
        ("train-gan", RunQueue.CPU, "cpu"),
        ("train-classifier", RunQueue.GPU, "gpu"),
        ("import-data", RunQueue.CPU, "cpu-short"),
        ("synthesize", RunQueue.GPU, "gpu-short"),
        ("of-a-newer-version", RunQueue.CPU, "cpu"),
    ],
)
def test_message_goes_to_the_queue_of_its_device_and_lane(
    tmp_path: Path, run_type: str, queue: RunQueue, name: str
) -> None:
    celery = create_celery(Settings(_env_file=None, home=tmp_path))
    publish(celery, uuid.uuid4(), queue, lane_of(run_type))
    (message,) = (tmp_path.resolve() / "broker" / "messages").iterdir()
    assert message.name.endswith(f".{name}.msg")
