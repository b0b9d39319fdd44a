"""Workers and trainers that are killed, stopped, notified twice or not at all."""

import os
import signal
import socket
import sqlite3
import subprocess
import time
import uuid
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import typer

from app.core.database import now
from app.runs import broker
from app.runs.tables import Run, RunQueue, RunStatus
from app.settings import Settings
from ml.commands.common import until_stopped
from ml.errors import CheckpointError
from tests.faults import stand_in
from tests.faults.deployment import (
    Deployment,
    deployed,
    ended,
    is_alive,
    redis_server,
    wait_for,
)
from tests.support.ports import free_port


def test_run_is_done_and_one_told_of_fifty_times_is_done_once(deployment: Deployment) -> None:
    run_id = deployment.start(steps=4)
    for _ in range(49):
        deployment.notify(run_id)
    deployment.worker()
    deployment.worker()
    run = deployment.wait(run_id, ended)
    # Another run, whose message comes after the fifty, is done once they have been received.
    deployment.wait(deployment.start(steps=1), ended)
    assert (run.status, run.attempts, run.reason) == (RunStatus.SUCCEEDED, 1, None)
    assert len(deployment.trainers(run_id)) == 1
    progress = dict(run.progress or {})
    assert progress.pop("first_step_at") <= progress.pop("last_step_at")
    assert progress == {
        "step": 4,
        "of": 4,
        "eta_s": 0.0,
        "images_per_second": None,
        "steps_s": 0.2,
        "checkpoint_step": None,
        "metrics": {"loss": 0.25, "odd": None, "seconds": 0.05},
    }
    assert run.log_tail == "beginning after step 0\n"


def test_short_run_is_done_while_a_long_one_is_at_work(deployment: Deployment) -> None:
    deployment.worker()
    long = deployment.start(steps=100_000, step_s=0.01)
    deployment.wait_until_training(long)
    # Its message goes through the queue of short runs; a run without a message is found as well.
    for notified in (True, False):
        short = deployment.start(stand_in.ShortStandIn.name, steps=1, notified=notified)
        assert deployment.wait(short, ended).status is RunStatus.SUCCEEDED
    assert deployment.run(long).status is RunStatus.RUNNING


def test_killed_trainer_is_started_again_and_resumes(deployment: Deployment) -> None:
    run_id = deployment.start(steps=30)
    deployment.worker()
    os.kill(deployment.wait_until_training(run_id), signal.SIGKILL)
    run = deployment.wait(run_id, ended)
    assert (run.status, run.attempts) == (RunStatus.SUCCEEDED, 2)
    assert "beginning after step 0" in run.log_tail
    assert run.log_tail.count("beginning after step 0") == 1
    assert run.log_tail.count("beginning") == 2


def test_killed_worker_takes_its_trainer_with_it_and_another_resumes(
    deployment: Deployment,
) -> None:
    run_id = deployment.start(steps=40)
    first = deployment.worker()
    trainer = deployment.wait_until_training(run_id)
    deployment.worker()
    first.kill()
    first.wait()
    wait_for(lambda: not is_alive(trainer), lambda: "the trainer outlived its worker")
    run = deployment.wait(run_id, ended)
    assert (run.status, run.attempts) == (RunStatus.SUCCEEDED, 2)
    assert run.log_tail.count("beginning after step 0") == 1


def test_stopped_worker_gives_its_run_back_and_another_resumes_at_once(
    embedded: Deployment,
) -> None:
    run_id = embedded.start(steps=40)
    first = embedded.worker()
    trainer = embedded.wait_until_training(run_id)
    first.terminate()
    assert first.wait(60) == 0
    assert not is_alive(trainer)
    run = embedded.run(run_id)
    assert (run.status, run.attempts, run.lease_owner) == (RunStatus.QUEUED, 0, None)
    embedded.worker()
    run = embedded.wait(run_id, ended)
    assert (run.status, run.attempts) == (RunStatus.SUCCEEDED, 1)
    assert len(embedded.trainers(run_id)) == 2
    assert run.log_tail.count("beginning after step 0") == 1


def test_worker_that_slept_over_its_lease_loses_the_run(embedded: Deployment) -> None:
    run_id = embedded.start(steps=10_000)
    sleeper = embedded.worker()
    trainer = embedded.wait_until_training(run_id)
    put_to_sleep(embedded, sleeper)
    embedded.wait(run_id, lambda run: run.lease_until is not None and run.lease_until < now())
    embedded.worker()
    embedded.wait(run_id, lambda run: run.attempts == 2)
    # The sleeper's trainer is awake: two in one folder would spoil each other's work.
    assert is_alive(trainer)
    assert embedded.trainers(run_id) == [trainer]
    sleeper.send_signal(signal.SIGCONT)
    wait_for(lambda: len(embedded.trainers(run_id)) == 2, lambda: embedded.story(run_id))
    assert not is_alive(trainer)


def put_to_sleep(embedded: Deployment, worker: "subprocess.Popen[bytes]") -> None:
    """Stop a worker while it does not hold the write lock of SQLite, which nobody could break."""

    def sleeps_without_lock() -> bool:
        worker.send_signal(signal.SIGSTOP)
        wait_for(
            lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED,
            lambda: "the worker cannot be stopped",
        )
        if can_write(embedded.settings.home_folder.database):
            return True
        worker.send_signal(signal.SIGCONT)
        return False

    wait_for(sleeps_without_lock, lambda: "the worker always holds the lock")


def can_write(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=0.2)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


def test_run_that_nobody_was_told_of_is_found_by_a_worker_with_the_usual_lease(
    embedded: Deployment,
) -> None:
    embedded.worker(lease_s=30.0)
    embedded.wait(embedded.start(steps=1), ended)
    # As after a crash between the commit and the message.
    run = embedded.wait(embedded.start(steps=1, notified=False), ended)
    assert run.status is RunStatus.SUCCEEDED
    # Claimed sooner than by its lease.
    assert run.started_at
    assert (run.started_at - run.created_at).total_seconds() < 25


def test_message_that_is_still_being_written_harms_nobody(embedded: Deployment) -> None:
    first = embedded.start(steps=1)
    (message,) = (embedded.settings.home / "broker" / "messages").iterdir()
    message.write_bytes(b"")
    embedded.worker()
    embedded.wait(first, ended)
    wait_for(lambda: not message.exists(), lambda: embedded.story(first))
    assert embedded.wait(embedded.start(steps=1), ended).status is RunStatus.SUCCEEDED
    assert embedded.processes[0].poll() is None


def test_message_that_cannot_be_sent_does_not_hold_up_its_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A wait that no other limit ends first; the sender needs a moment to import Celery.
    monkeypatch.setattr(broker, "NOTIFY_TIMEOUT_S", 0.2)
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        for port in (deaf.getsockname()[1], free_port()):
            settings = Settings(
                _env_file=None, home=tmp_path, broker_url=f"redis://127.0.0.1:{port}/0"
            )
            began = time.monotonic()
            broker.notify_workers(settings, Run(id=uuid.uuid4(), queue=RunQueue.CPU))
            # A deaf broker would be waited for without end.
            assert time.monotonic() - began < 20


def test_run_is_done_though_there_is_no_broker_at_all(tmp_path: Path) -> None:
    with deployed(tmp_path, broker_url=f"redis://127.0.0.1:{free_port()}/0") as deployment:
        worker = deployment.worker()
        run_id = deployment.start(steps=1)
        assert deployment.wait(run_id, ended).status is RunStatus.SUCCEEDED
        worker.terminate()
        assert worker.wait(60) == 0


def test_broker_that_delivers_again_what_takes_long_starts_nothing_twice(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stand_in.VISIBILITY_TIMEOUT, "0.5")
    with deployed(tmp_path, broker_url=redis_url) as deployment:
        run_id = deployment.start(steps=40)
        deployment.worker()
        deployment.wait_until_training(run_id)
        # Taken by the worker while it is busy, and delivered again after half a second.
        deployment.notify(run_id)
        run = deployment.wait(run_id, ended)
        deployment.wait(deployment.start(steps=1), ended)
        assert (run.status, run.attempts) == (RunStatus.SUCCEEDED, 1)
        assert len(deployment.trainers(run_id)) == 1


def test_worker_outlives_its_broker_and_hears_it_again(tmp_path: Path) -> None:
    port = free_port()
    with deployed(tmp_path, broker_url=f"redis://127.0.0.1:{port}/0") as deployment:
        with redis_server(port):
            first = deployment.start(steps=30)
            deployment.worker()
            deployment.wait_until_training(first)
        second = deployment.start(steps=1)
        assert deployment.wait(first, ended).status is RunStatus.SUCCEEDED
        assert deployment.wait(second, ended).status is RunStatus.SUCCEEDED
        # Found by polling. A message that a sender still held back may arrive later than this.
        log, received = deployment.log, f"Received the message of run {second}"
        before = log.read_text().count(received)
        with redis_server(port):
            deployment.notify(second)
            wait_for(lambda: log.read_text().count(received) > before, log.read_text)


def test_trainer_told_to_end_says_so_by_its_exit_status() -> None:
    def train() -> None:
        with until_stopped() as should_stop:
            assert not should_stop()
            signal.raise_signal(signal.SIGTERM)
            assert should_stop()
            raise CheckpointError("stopped before the first epoch ended")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as end:
        train()
    assert end.value.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_trainer_that_was_not_told_to_end_keeps_its_error() -> None:
    with pytest.raises(CheckpointError), until_stopped():
        raise CheckpointError("other options")
