"""Heartbeats of workers: files that say which workers are alive and what they can do."""

import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.core.database import now
from app.runs.tables import RunLane, RunQueue
from app.settings import Settings

# A worker polls several times in this time.
ALIVE_S = 60.0
# Files of workers that died are removed after this time.
_FORGOTTEN_S = 24 * 3600.0


class WorkerSign(BaseModel):
    """What a worker says about itself after every poll.

    Attributes:
        host: the machine or container.
        pid: of its process.
        queues: the devices whose runs it executes.
        lanes: it executes one run of each at a time.
        gpu: the model of its GPU; empty without one.
        cores: CPU cores that its programs may use.
        version: of the application.
        started_at: when it started.
        seen_at: when it polled last.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    pid: int
    queues: list[RunQueue]
    lanes: list[RunLane]
    gpu: str = ""
    cores: int = 1
    version: str
    started_at: datetime
    seen_at: datetime


class Heartbeat:
    """The file of one worker."""

    def __init__(self, settings: Settings, queues: list[RunQueue], lanes: list[RunLane], gpu: str):
        """Write nothing yet."""
        host, pid = socket.gethostname(), os.getpid()
        self._path = _folder(settings) / f"{host}-{pid}.json"
        started = now()
        self.sign = WorkerSign(
            host=host,
            pid=pid,
            queues=queues,
            lanes=lanes,
            gpu=gpu,
            cores=_cores(),
            version=version("xray-screening"),
            started_at=started,
            seen_at=started,
        )

    def beat(self) -> None:
        """Say that the worker is alive."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(self.sign.model_copy(update={"seen_at": now()}).model_dump_json())
        part.replace(self._path)

    def end(self) -> None:
        """Remove the file, and those of workers that died long ago."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            for path in self._path.parent.iterdir():
                if time.time() - _touched_at(path) > _FORGOTTEN_S:
                    path.unlink(missing_ok=True)


def workers_alive(settings: Settings, within_s: float = ALIVE_S) -> list[WorkerSign]:
    """The workers that have polled lately, if they share this home folder.

    Args:
        settings: of this installation.
        within_s: how recent the last poll has to be.
    """
    signs = (_read(path) for path in sorted(_folder(settings).glob("*.json")))
    present = datetime.now(UTC)
    return [
        sign
        for sign in signs
        if sign and (present - sign.seen_at.astimezone(UTC)).total_seconds() <= within_s
    ]


def alive_here(settings: Settings, within_s: float) -> bool:
    """Whether a worker of this machine has polled lately."""
    host = socket.gethostname()
    return any(sign.host == host for sign in workers_alive(settings, within_s))


def _read(path: Path) -> WorkerSign | None:
    try:
        return WorkerSign.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        # It has just ended, or is of a version with other queues.
        return None


def _folder(settings: Settings) -> Path:
    return settings.home_folder.workers


def _touched_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
