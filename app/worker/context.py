"""What an attempt at a run needs of its worker."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from app.core.database import Database
from app.runs.tables import Run
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What an attempt at a run needs of its worker.

    Attributes:
        settings: of this installation.
        database: where runs are.
        lease_s: seconds after which other workers take over from one that does not respond.
        requeue: called with a run that is queued again, to notify workers of it.
        stopping: set once the worker has to end.
    """

    settings: Settings
    database: Database
    lease_s: float
    requeue: Callable[[Run], None]
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def heartbeat_s(self) -> float:
        """Seconds between renewals of a lease, and between polls."""
        return self.lease_s / 15
