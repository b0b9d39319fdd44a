"""One worker beside the embedded server, so that `make run` is all that long jobs need."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from app.core.child_process import end_with_parent
from app.settings import Settings

logger = logging.getLogger(__name__)
# What a worker and its trainers need; the server itself imports neither.
_NEEDED = ("celery", "torch")
# The first page comes first.
_FIRST_WAIT_S = 1.5
_LONGEST_WAIT_S = 60.0
# A worker that lived so long did not die of how it was started.
_LONG_LIFE_S = 60.0
# Enough for a trainer to save and for its worker to give the run back.
_GRACE_S = 12.0
# Answering images goes before training.
_NICENESS = 5


def can_work() -> bool:
    """Whether this installation has what long jobs need."""
    return all(find_spec(name) for name in _NEEDED)


@contextmanager
def supervised_worker(settings: Settings) -> Iterator[None]:
    """Keep a worker running: started again when it dies, ended in order at the end.

    On Linux it gets SIGTERM also where this process is killed: it gives its run back, and the next
    worker continues it. Elsewhere it goes on, which does no harm: a run has one worker, however
    many there are.
    """
    log = settings.home_folder.worker_log
    log.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        log.write_bytes(b"")
    over = threading.Event()
    # The kernel ends the worker with the thread that started it, so it is this one all the time.
    keeper = threading.Thread(target=_keep, args=(log, over), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _keep(log: Path, over: threading.Event) -> None:
    wait_s = _FIRST_WAIT_S
    while not over.wait(wait_s):
        began = time.monotonic()
        try:
            worker = _start(log)
        except OSError as problem:
            # The disk may be full for a while, or the machine have no process to spare.
            wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)
            logger.error("no worker could be started: %s; trying again in %g s", problem, wait_s)
            continue
        while worker.poll() is None and not over.wait(0.2):
            pass
        if over.is_set():
            _end(worker)
            return
        if time.monotonic() - began > _LONG_LIFE_S:
            wait_s = _FIRST_WAIT_S
        wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)
        logger.error("the worker ended, see %s; starting another one in %g s", log, wait_s)


def _start(log: Path) -> "subprocess.Popen[bytes]":
    command = end_with_parent([sys.executable, "-m", "app.cli", "worker"], signal.SIGTERM)
    with log.open("ab") as output:
        worker = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # An interrupt at the terminal is for the server, which ends the worker.
            start_new_session=True,
        )
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, worker.pid, _NICENESS)
    return worker


def _end(worker: "subprocess.Popen[bytes]") -> None:
    worker.terminate()
    try:
        worker.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
