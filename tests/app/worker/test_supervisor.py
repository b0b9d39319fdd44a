"""The worker beside the embedded server is started again, whatever it died of."""

import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.settings import Settings
from app.worker import supervisor


def test_worker_that_cannot_be_started_is_tried_again_later_and_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [OSError(errno.ENOSPC, "no room"), BlockingIOError(errno.EAGAIN, "no process")]
    started: list[subprocess.Popen[bytes]] = []
    has_started = threading.Event()

    def start(_log: Path) -> "subprocess.Popen[bytes]":
        if faults:
            raise faults.pop(0)
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        has_started.set()
        return started[-1]

    monkeypatch.setattr(supervisor, "_start", start)
    monkeypatch.setattr(supervisor, "_FIRST_WAIT_S", 0.01)
    with supervisor.supervised_worker(Settings(_env_file=None, home=tmp_path)):
        assert has_started.wait(60)
    assert [worker.poll() is not None for worker in started] == [True]
    assert [record.getMessage() for record in caplog.records] == [
        f"Cannot start the worker: [Errno {errno.ENOSPC}] no room. Trying again in 0.02 s.",
        f"Cannot start the worker: [Errno {errno.EAGAIN}] no process. Trying again in 0.04 s.",
    ]
