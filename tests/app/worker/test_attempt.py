"""Attempts at runs in this process: what comes before and after the program, and the device."""

import fcntl
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from app.core.database import Database, now
from app.core.notifications import Notification
from app.migrations import upgrade
from app.registry.tables import ModelVersion
from app.runs import queue as runs
from app.runs.handlers.base import (
    DATA_SET_FOLDER,
    DONE,
    Completion,
    Preparation,
    RunResult,
    RunType,
)
from app.runs.progress import LOG
from app.runs.run_types import RUN_TYPES
from app.runs.service import create_run
from app.runs.tables import Run, RunLane, RunQueue, RunStatus
from app.settings import Settings
from app.worker.gpu_lock import lock_gpu
from app.worker.worker import Worker
from ml.data.importers.prepare import WORK
from ml.errors import DataError
from ml.options.common import FINISH_EARLY
from tests.conftest import leave_out
from tests.faults import stand_in
from tests.support.postgres import fresh_database

LEASE_S = 2.0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def own_database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database in which nobody else starts runs."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('runs') / 'xray.db'}"
        return
    with fresh_database() as url:
        if url is None:
            leave_out("no PostgreSQL server here, and none that could be started")
        yield str(url)


@pytest.fixture
def settings(own_database_url: str, tmp_path: Path) -> Settings:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "manifest.csv").touch()
    return Settings(_env_file=None, home=tmp_path / "home", database_url=own_database_url)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.effective_database_url)
    upgrade(database.engine)
    yield database
    with database.session() as session:
        session.execute(delete(ModelVersion))
        session.execute(delete(Run))
    database.close()


@pytest.fixture
def worker(settings: Settings, database: Database) -> Iterator[Worker]:
    worker = Worker(settings, list(RunQueue), LEASE_S)
    yield worker
    worker.stop()
    worker.database.close()


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the stand-in a run type, with other hooks than its own."""

    def make(**hooks: Any) -> None:
        run_type: RunType = stand_in.StandIn()
        for name, hook in hooks.items():
            monkeypatch.setattr(run_type, name, hook)
        monkeypatch.setitem(RUN_TYPES, run_type.name, run_type)

    make()
    return make


def start(
    database: Database, settings: Settings, queue: RunQueue = RunQueue.CPU, **options: Any
) -> uuid.UUID:
    given = {"data": settings.home.parent / "images", "steps": 1, "step_s": 0.0} | options
    with database.session() as session:
        return create_run(
            session, stand_in.StandIn.name, given, requested_by="test", queue=queue
        ).id


def fetch(database: Database, run_id: uuid.UUID) -> Run:
    with database.session() as session:
        return runs.get_run(session, run_id)


def models(database: Database) -> int:
    with database.session() as session:
        return len(session.scalars(select(ModelVersion)).all())


def trainers(settings: Settings, run_id: uuid.UUID) -> list[int]:
    """The process of every start of a run's program."""
    path = settings.home / "runs" / str(run_id) / "starts.txt"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def starts(settings: Settings, run_id: uuid.UUID) -> int:
    """How often the program of a run was started."""
    return len(trainers(settings, run_id))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_what_came_of_a_run_is_registered_with_its_success(
    database: Database, settings: Settings, worker: Worker, change: Callable[..., None]
) -> None:
    run_id = start(database, settings, registers=True)
    worker.execute(run_id)
    run = fetch(database, run_id)
    assert run.status is RunStatus.SUCCEEDED
    assert (run.progress["step"], run.log_tail) == (1, "beginning after step 0\n")
    with database.session() as session:
        model = session.scalars(select(ModelVersion)).one()
    assert run.result == {"classifier": model.sha256, "version": "counted"}
    assert model.run_id == run_id
    assert (settings.home / str(model.folder) / stand_in.MODEL).read_text() == "1"


def test_ends_of_runs_are_announced_without_their_reasons(
    database: Database, settings: Settings, change: Callable[..., None]
) -> None:
    def refuse(_about: Preparation) -> dict[str, Any]:
        raise DataError("images of Mrs Smith cannot be read")

    # Nobody sends anything here: a server does.
    told = settings.model_copy(update={"webhook_url": "http://127.0.0.1:9/"})
    worker = Worker(told, list(RunQueue), LEASE_S)
    change()
    done = start(database, settings)
    worker.execute(done)
    change(prepare=refuse)
    failed = start(database, settings)
    worker.execute(failed)
    worker.stop()
    worker.database.close()
    with database.session() as session:
        rows = session.scalars(select(Notification)).all()
        session.execute(delete(Notification))
    sent = {row.event: row.body["detail"]["run"] for row in rows}
    assert sent == {"run.succeeded": str(done), "run.failed": str(failed)}
    assert "Smith" not in str([row.body for row in rows])


def test_run_whose_worker_vanished_for_the_last_time_is_announced(
    database: Database, settings: Settings, change: Callable[..., None]
) -> None:
    told = settings.model_copy(update={"webhook_url": "http://127.0.0.1:9/"})
    worker = Worker(told, list(RunQueue), LEASE_S)
    run_id = start(database, settings)
    with database.session() as session:
        lost = now() - timedelta(seconds=1)
        gone = {"lease_owner": "gone", "lease_until": lost, "attempts": 3}
        session.execute(update(Run).values(status=RunStatus.RUNNING, **gone))
    with ThreadPoolExecutor(1) as pool:
        worker._look(pool)
    worker.stop()
    worker.database.close()
    assert fetch(database, run_id).status is RunStatus.FAILED
    with database.session() as session:
        (row,) = session.scalars(select(Notification)).all()
        session.execute(delete(Notification))
    assert (row.event, row.body["detail"]["run"]) == ("run.failed", str(run_id))


def test_run_that_advances_from_checkpoint_to_checkpoint_is_not_ended(
    database: Database, settings: Settings, worker: Worker, change: Callable[..., None]
) -> None:
    run_id = start(database, settings, steps=6, dies_after="any")
    for step in range(1, 6):
        worker.execute(run_id)
        run = fetch(database, run_id)
        assert (run.status, run.attempts, run.progress["step"]) == (RunStatus.QUEUED, 1, step)
    worker.execute(run_id)
    assert fetch(database, run_id).status is RunStatus.QUEUED
    # Everything is counted, so the program has nothing left to die of.
    worker.execute(run_id)
    assert fetch(database, run_id).status is RunStatus.SUCCEEDED
    assert starts(settings, run_id) == 7


def test_run_that_dies_at_the_same_step_again_and_again_is_ended(
    database: Database, settings: Settings, worker: Worker, change: Callable[..., None]
) -> None:
    run_id = start(database, settings, steps=6, dies_after="3")
    for _ in range(3):
        worker.execute(run_id)
    run = fetch(database, run_id)
    assert (run.status, run.attempts) == (RunStatus.FAILED, 3)
    assert str(run.reason).endswith("No attempt is left.")


def test_results_that_cannot_be_registered_fail_the_run_which_can_resume(
    database: Database, settings: Settings, worker: Worker, change: Callable[..., None]
) -> None:
    def keep_half(done: Completion) -> RunResult:
        stand_in.StandIn().complete(done)
        raise DataError("the images are not what their freeze says")

    change(complete=keep_half)
    run_id = start(database, settings, registers=True)
    worker.execute(run_id)
    run = fetch(database, run_id)
    assert (run.status, run.result) == (RunStatus.FAILED, {})
    assert run.reason == (
        "The results could not be registered: the images are not what their freeze says"
    )
    assert models(database) == 0
    change()
    with database.session() as session:
        runs.resume(session, run_id, requested_by="test")
    worker.execute(run_id)
    assert fetch(database, run_id).status is RunStatus.SUCCEEDED
    assert models(database) == 1
    assert starts(settings, run_id) == 1


def test_worker_that_dies_before_the_commit_leaves_only_the_completing(
    database: Database, settings: Settings, worker: Worker, change: Callable[..., None]
) -> None:
    class Killed(BaseException):
        pass

    def keep_and_die(done: Completion) -> RunResult:
        stand_in.StandIn().complete(done)
        raise Killed

    change(complete=keep_and_die)
    run_id = start(database, settings, registers=True)
    with pytest.raises(Killed):
        worker.execute(run_id)
    assert (fetch(database, run_id).status, models(database)) == (RunStatus.RUNNING, 0)
    change()
    with database.session() as session:
        session.execute(update(Run).values(lease_until=now() - timedelta(seconds=1)))
        assert runs.reap(session) == [run_id]
    worker.execute(run_id)
    run = fetch(database, run_id)
    assert (run.status, run.attempts, models(database)) == (RunStatus.SUCCEEDED, 2, 1)
    assert starts(settings, run_id) == 1


def test_results_wait_while_somebody_of_an_earlier_attempt_is_at_them(
    database: Database, settings: Settings, worker: Worker, change: Callable[..., None]
) -> None:
    run_id = start(database, settings, registers=True)
    folder = settings.home / "runs" / str(run_id)
    folder.mkdir(parents=True)
    (folder / "counter.txt").write_text("1")
    (folder / DONE).touch()
    with (folder / LOG).open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        worker.execute(run_id)
        run = fetch(database, run_id)
        assert (run.status, models(database)) == (RunStatus.QUEUED, 0)
        assert run.reason == (
            "The results could not be registered: "
            "the program of an earlier attempt is still running"
        )
    worker.execute(run_id)
    assert (fetch(database, run_id).status, models(database)) == (RunStatus.SUCCEEDED, 1)


def test_results_of_a_worker_without_the_lease_are_not_kept(
    database: Database, settings: Settings, worker: Worker, change: Callable[..., None]
) -> None:
    def lose_lease(done: Completion) -> RunResult:
        with database.session() as session:
            session.execute(update(Run).values(lease_owner="another"))
        return stand_in.StandIn().complete(done)

    change(complete=lose_lease)
    run_id = start(database, settings, registers=True)
    worker.execute(run_id)
    run = fetch(database, run_id)
    assert (run.status, run.lease_owner, run.result) == (RunStatus.RUNNING, "another", {})
    assert models(database) == 0


@pytest.mark.parametrize("hook", ["prepare", "complete"])
def test_lease_is_renewed_while_a_hook_takes_long(
    database: Database,
    settings: Settings,
    worker: Worker,
    change: Callable[..., None],
    hook: str,
) -> None:
    def wait_for_renewals(about: Preparation) -> RunResult | dict[str, Any]:
        first = fetch(database, about.run.id).lease_until
        assert first
        wait_for(
            lambda: (
                (fetch(database, about.run.id).lease_until or first)
                > first + timedelta(seconds=LEASE_S / 4)
            )
        )
        return RunResult() if isinstance(about, Completion) else {}

    change(**{hook: wait_for_renewals})
    run_id = start(database, settings)
    worker.execute(run_id)
    assert fetch(database, run_id).status is RunStatus.SUCCEEDED


def test_what_is_made_ready_is_told_to_the_program(
    database: Database, settings: Settings, worker: Worker, change: Callable[..., None]
) -> None:
    change(prepare=lambda before: {"steps": 3, "completing_s": None})
    run_id = start(database, settings)
    worker.execute(run_id)
    assert fetch(database, run_id).progress["step"] == 3


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        (DataError("the archive is gone"), RunStatus.FAILED, "the archive is gone"),
        (OSError("no room"), RunStatus.QUEUED, "no room"),
        (
            KeyError("bundle_version"),
            RunStatus.FAILED,
            "KeyError: 'bundle_version'",
        ),
    ],
)
def test_run_that_cannot_be_made_ready_is_tried_again_where_that_may_help(
    database: Database,
    settings: Settings,
    worker: Worker,
    change: Callable[..., None],
    fault: Exception,
    status: RunStatus,
    reason: str,
) -> None:
    def fail(before: Preparation) -> dict[str, Any]:
        raise fault

    change(prepare=fail)
    run_id = start(database, settings)
    worker.execute(run_id)
    run = fetch(database, run_id)
    assert run.status is status
    assert run.reason == f"The program could not be started: {reason}"
    assert starts(settings, run_id) == 0


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("fails", RunStatus.FAILED),
        ("cannot be registered", RunStatus.FAILED),
        ("succeeds", RunStatus.SUCCEEDED),
        ("is cancelled", RunStatus.CANCELLED),
        ("is given back", RunStatus.QUEUED),
        ("is tried again", RunStatus.QUEUED),
    ],
)
def test_images_of_an_import_go_with_its_run(
    database: Database,
    settings: Settings,
    worker: Worker,
    change: Callable[..., None],
    ending: str,
    status: RunStatus,
) -> None:
    lasting = ending.startswith("is")
    run_id = start(
        database,
        settings,
        fail_at=int(ending == "fails"),
        steps=10_000 if lasting else 1,
        step_s=0.01,
    )
    folder, name = settings.home / "runs" / str(run_id), str(uuid.uuid4())
    images = [
        *(folder / part / "image.png" for part in ("corrections", WORK, DATA_SET_FOLDER)),
        settings.home / "staging" / name / "archive",
    ]
    with database.session() as session:
        run = runs.get_run(session, run_id)
        run.options = run.options | {"upload": name}

    def gather(before: Preparation) -> dict[str, Any]:
        for image in images:
            image.parent.mkdir(parents=True)
            image.touch()
        if ending == "is cancelled":
            with database.session() as session:
                runs.request_cancel(session, run_id, requested_by="test")
        if ending == "is given back":
            worker.stop()
        if ending == "is tried again":
            raise OSError("no room")
        return {"upload": None}

    def keep(done: Completion) -> RunResult:
        if ending == "cannot be registered":
            raise DataError("the images are not what their freeze says")
        return RunResult()

    change(prepare=gather, complete=keep)
    worker.execute(run_id)
    assert fetch(database, run_id).status is status
    assert [image.exists() for image in images] == [status is RunStatus.QUEUED] * len(images)
    assert not (folder / DONE).exists()


def test_device_has_one_job_at_a_time_and_other_workers_take_cpu_runs(
    database: Database,
    settings: Settings,
    worker: Worker,
    change: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    first, second = (
        start(database, settings, RunQueue.GPU, steps=2000, step_s=0.01) for _ in range(2)
    )
    busy = threading.Thread(target=worker.execute, args=(first,))
    busy.start()
    counter = settings.home / "runs" / str(first) / "counter.txt"
    wait_for(counter.exists)
    other = Worker(settings, list(RunQueue), LEASE_S)
    on_cpu = start(database, settings)
    other.execute(second)
    assert fetch(database, on_cpu).status is RunStatus.SUCCEEDED
    assert fetch(database, second).status is RunStatus.QUEUED
    # Whatever becomes of its worker, the trainer has the device while it lives.
    (trainer,) = trainers(settings, first)
    (lock,) = (settings.home / "devices").iterdir()
    opened = [os.path.realpath(fd) for fd in Path(f"/proc/{trainer}/fd").iterdir()]
    assert str(lock.resolve()) in opened
    assert lock.name.endswith("-3.lock")
    with database.session() as session:
        runs.request_cancel(session, first, requested_by="test")
    busy.join(60)
    assert fetch(database, first).status is RunStatus.CANCELLED
    with database.session() as session:
        run = runs.get_run(session, second)
        run.options = run.options | {"steps": 1}
    other.execute(second)
    assert fetch(database, second).status is RunStatus.SUCCEEDED
    other.database.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, change: Callable[..., None]) -> None:
    """A second stand-in, whose runs are short."""

    class Quick(stand_in.StandIn):
        name = "quick"
        lane = RunLane.SHORT

    monkeypatch.setitem(RUN_TYPES, "quick", Quick())


def start_quick(database: Database, settings: Settings) -> uuid.UUID:
    given = {"data": settings.home.parent / "images", "steps": 1, "step_s": 0.0}
    with database.session() as session:
        return create_run(session, "quick", given, requested_by="test").id


@contextmanager
def long_run(database: Database, settings: Settings, worker: Worker) -> Iterator[uuid.UUID]:
    """A long run that the worker executes meanwhile."""
    run_id = start(database, settings, steps=100_000, step_s=0.01)
    thread = threading.Thread(target=worker.execute, args=(run_id,))
    thread.start()
    wait_for((settings.home / "runs" / str(run_id) / "counter.txt").exists)
    yield run_id
    with database.session() as session:
        runs.request_cancel(session, run_id, requested_by="test")
    thread.join(60)


def test_request_to_finish_early_reaches_the_program_and_a_resumed_run_forgets_it(
    database: Database,
    settings: Settings,
    worker: Worker,
    change: Callable[..., None],
) -> None:
    change(finishes_early=True)
    with long_run(database, settings, worker) as run_id:
        wait_for(lambda: bool(fetch(database, run_id).progress))
        with database.session() as session:
            runs.request_finish(session, run_id, requested_by="test")
        asked = settings.home / "runs" / str(run_id) / FINISH_EARLY
        wait_for(asked.exists)
    assert fetch(database, run_id).status is RunStatus.CANCELLED
    with database.session() as session:
        run = runs.resume(session, run_id, requested_by="test")
        run.options = run.options | {"steps": 1}
    worker.execute(run_id)
    assert fetch(database, run_id).status is RunStatus.SUCCEEDED
    assert not asked.exists()


@pytest.mark.usefixtures("quick")
def test_short_run_does_not_wait_for_a_long_one_and_a_second_long_one_does(
    database: Database, settings: Settings, worker: Worker
) -> None:
    with long_run(database, settings, worker) as first:
        second = start(database, settings)
        short = start_quick(database, settings)
        worker.execute(short)
        assert fetch(database, short).status is RunStatus.SUCCEEDED
        assert fetch(database, short).worker == socket.gethostname()
        worker.execute(second)
        assert fetch(database, second).status is RunStatus.QUEUED
        assert fetch(database, first).status is RunStatus.RUNNING


@pytest.mark.usefixtures("quick")
def test_short_run_waits_where_memory_is_short_until_the_long_one_has_ended(
    database: Database, settings: Settings, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.worker.worker.available_memory", lambda: 1_999_000_000)
    short = start_quick(database, settings)
    with long_run(database, settings, worker):
        worker.execute(short)
        assert fetch(database, short).status is RunStatus.QUEUED
    worker.execute(short)
    assert fetch(database, short).status is RunStatus.SUCCEEDED


@pytest.mark.usefixtures("quick")
def test_worker_of_one_lane_leaves_the_other_runs(database: Database, settings: Settings) -> None:
    of_short = Worker(settings, list(RunQueue), LEASE_S, [RunLane.SHORT])
    long, short = start(database, settings), start_quick(database, settings)
    of_short.execute(long)
    assert fetch(database, long).status is RunStatus.QUEUED
    assert fetch(database, short).status is RunStatus.SUCCEEDED
    of_short.database.close()


def test_failed_run_says_why_and_is_not_repeated(
    database: Database, settings: Settings, worker: Worker, change: Callable[..., None]
) -> None:
    run_id = start(database, settings, steps=9, fail_at=3)
    worker.execute(run_id)
    run = fetch(database, run_id)
    assert (run.status, run.attempts) == (RunStatus.FAILED, 1)
    assert run.reason == "no luck in step 3"
    assert run.progress["step"] == 2


def test_trainer_killed_every_time_is_given_up(
    database: Database, settings: Settings, worker: Worker, change: Callable[..., None]
) -> None:
    run_id = start(database, settings, steps=2000, step_s=0.01)
    for attempt in (1, 2, 3):
        thread = threading.Thread(target=worker.execute, args=(run_id,))
        thread.start()
        wait_for(lambda before=attempt: starts(settings, run_id) == before)
        os.kill(trainers(settings, run_id)[-1], signal.SIGKILL)
        thread.join(60)
    run = fetch(database, run_id)
    assert (run.status, run.attempts) == (RunStatus.FAILED, 3)
    assert run.reason == "The program was killed by signal 9. No attempt is left."


def test_cancelled_run_says_so_at_once_and_frees_its_device_soon(
    database: Database, settings: Settings, change: Callable[..., None]
) -> None:
    worker = Worker(settings, list(RunQueue))  # with the usual lease
    run_id = start(database, settings, RunQueue.GPU, steps=100_000, step_s=0.01, stubborn=True)
    thread = threading.Thread(target=worker.execute, args=(run_id,))
    thread.start()
    wait_for((settings.home / "runs" / str(run_id) / "counter.txt").exists)
    with database.session() as session:
        runs.request_cancel(session, run_id, requested_by="test")
    assert fetch(database, run_id).cancel_requested_at
    # The request returns while the program, which ignores SIGTERM, still runs.
    assert thread.is_alive()
    thread.join(60)
    device = lock_gpu(settings)
    assert device
    device.close()
    assert fetch(database, run_id).status is RunStatus.CANCELLED
    worker.database.close()


def test_worker_looks_for_runs_again_whatever_went_wrong(
    database: Database,
    settings: Settings,
    worker: Worker,
    change: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults = iter([OSError("no room"), ValueError("odd schedule")])

    def fail_twice(*_about: Any) -> list[Run]:
        for fault in faults:
            raise fault
        return []

    monkeypatch.setattr("app.runs.schedules.start_due", fail_twice)
    run_id = start(database, settings)
    with ThreadPoolExecutor(1) as pool:
        polling = threading.Thread(target=worker.poll, args=(pool,))
        polling.start()
        wait_for(lambda: fetch(database, run_id).status is RunStatus.SUCCEEDED)
        worker.stop()
        polling.join(60)
    assert not polling.is_alive()


def test_other_devices_of_a_machine_are_free(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lock_gpu(settings)
    assert first
    assert lock_gpu(settings) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937-d72c")
    second = lock_gpu(settings)
    assert second
    second.close()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    first.close()
    again = lock_gpu(settings)
    assert again
    again.close()
