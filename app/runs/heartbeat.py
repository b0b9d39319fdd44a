"""Heartbeats of workers: files that show whether a queued run will be executed."""

import socket
import time
from pathlib import Path

from app.settings import Settings

# A worker polls several times in this time.
ALIVE_S = 60.0


def alive_file(settings: Settings) -> Path:
    """The file that the workers of this machine touch after every poll."""
    return _folder(settings) / socket.gethostname()


def workers_alive(settings: Settings, within_s: float = ALIVE_S) -> list[str]:
    """The machines whose worker has polled lately, if they share this home folder.

    Args:
        settings: of this installation.
        within_s: how recent the last poll has to be.
    """
    since = time.time() - within_s
    return sorted(path.name for path in _folder(settings).glob("*") if _touched_at(path) >= since)


def _folder(settings: Settings) -> Path:
    return settings.home_folder.workers


def _touched_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
