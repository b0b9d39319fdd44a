"""What receives the messages of the broker."""

import uuid
from collections.abc import Collection
from concurrent.futures import Executor
from typing import Protocol

from app.runs.tables import RunLane


class Consumer(Protocol):
    """What `consume` calls: a worker.

    Attributes:
        lanes: it executes one run of each at a time.
    """

    lanes: Collection[RunLane]

    def execute(self, run_id: uuid.UUID) -> None:
        """Handle the message that a run is queued."""

    def poll(self, pool: Executor) -> None:
        """Look for queued runs until the consumer stops; executions go to the pool."""

    def stop(self) -> None:
        """Start no further run and end the current one."""
