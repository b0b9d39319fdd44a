"""Signs of life of workers, for whoever has to know whether a run will be done."""

import socket
import time
from pathlib import Path

from app.settings import Settings

# A worker gives such a sign whenever it has looked for runs: several times in this time.
ALIVE_S = 60.0


def alive_file(settings: Settings) -> Path:
    """What the workers of this machine touch whenever they have looked for runs."""
    return _folder(settings) / socket.gethostname()


def workers_alive(settings: Settings, within_s: float = ALIVE_S) -> list[str]:
    """The machines whose worker has looked for runs lately, as far as they share our home folder.

    Args:
        settings: name the home folder.
        within_s: how long ago counts.
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
