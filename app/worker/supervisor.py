"""A worker beside the embedded server, so that one command serves pages and executes runs."""

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
# What a worker and its programs need; the server itself imports neither.
_NEEDED = ("celery", "torch")
# The first page is served first.
_FIRST_WAIT_S = 1.5
_LONGEST_WAIT_S = 60.0
# A worker that lived this long did not die because of how it was started.
_LONG_LIFE_S = 60.0
# Enough for a program to save its state and for the worker to return its run.
_GRACE_S = 12.0
# Predictions have priority over training.
_NICENESS = 5


def can_work() -> bool:
    """Whether this installation can execute runs."""
    return all(find_spec(name) for name in _NEEDED)


@contextmanager
def supervised_worker(settings: Settings) -> Iterator[None]:
    """Run a worker: restarted when it dies, terminated at the end.

    On Linux it receives SIGTERM also when this process is killed: it returns its run, and the next
    worker resumes it. On other systems it continues, which does no harm: one worker executes a run,
    however many there are.
    """
    log = settings.home_folder.worker_log
    log.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        log.write_bytes(b"")
    over = threading.Event()
    # One thread for all restarts: the kernel ends the worker with the thread that started it.
    supervisor = threading.Thread(target=_supervise, args=(log, over), daemon=True)
    supervisor.start()
    try:
        yield
    finally:
        over.set()
        supervisor.join()


def _supervise(log: Path, over: threading.Event) -> None:
    wait_s = _FIRST_WAIT_S
    while not over.wait(wait_s):
        began = time.monotonic()
        try:
            worker = _start(log)
        except OSError as problem:
            # The disk may be full for a while, or the machine at its limit of processes.
            wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)
            logger.error("Cannot start the worker: %s. Trying again in %g s.", problem, wait_s)
            continue
        while worker.poll() is None and not over.wait(0.2):
            pass
        if over.is_set():
            _end(worker)
            return
        if time.monotonic() - began > _LONG_LIFE_S:
            wait_s = _FIRST_WAIT_S
        wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)
        logger.error("The worker ended, see %s. Starting another one in %g s.", log, wait_s)


def _start(log: Path) -> "subprocess.Popen[bytes]":
    command = end_with_parent([sys.executable, "-m", "app.cli", "worker"], signal.SIGTERM)
    with log.open("ab") as output:
        worker = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal is for the server, which then terminates the worker.
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
