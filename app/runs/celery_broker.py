"""Everything that is Celery's: messages to workers and the process that receives them.

A message carries the id of a run and nothing else. Options, owner and progress are in the run's row
(`app.runs.queue`), so a message that is lost, late or delivered twice does no harm.
"""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Collection
from pathlib import Path
from queue import Empty
from typing import Any

from celery import Celery, bootsteps, signals
from kombu.exceptions import ChannelError
from kombu.transport import filesystem

from app.core.logging import configure_logging
from app.runs.consumer import Consumer
from app.runs.tables import RunLane, RunQueue
from app.settings import Settings

logger = logging.getLogger(__name__)
EXECUTE = "xray.execute"


class _Channel(filesystem.Channel):
    def _get(self, *args: Any, **options: Any) -> Any:
        """Read the next message; one that another worker took or is still writing does not count.

        Otherwise such an error would end the worker. Its run is found by the next poll.
        """
        try:
            return super()._get(*args, **options)
        except (ChannelError, ValueError):
            raise Empty from None


class FolderTransport(filesystem.Transport):
    """The embedded broker: messages are files in a folder."""

    Channel = _Channel


def create_celery(settings: Settings) -> Celery:
    """The Celery application; nothing is connected before the first message."""
    celery = Celery(
        "xray",
        broker=settings.effective_broker_url or "filesystem://localhost",
        set_as_current=False,
    )
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        # The lease returns the run of a worker that died, so no message has to wait for an
        # acknowledgement. A worker that has used up its prefetch count would not notice that the
        # broker went away, and receive nothing from then on.
        task_acks_late=False,
        worker_prefetch_multiplier=0,
        worker_enable_remote_control=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    if not settings.effective_broker_url:
        celery.conf.update(
            broker_transport=f"{__name__}:{FolderTransport.__name__}",
            broker_transport_options=_message_folders(settings.home_folder.broker),
        )
    return celery


def _message_folders(root: Path) -> dict[str, str]:
    messages, control = root / "messages", root / "control"
    for folder in (messages, control):
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
    }


def message_queue(queue: RunQueue, lane: RunLane) -> str:
    """The name of the broker's queue for a device and a lane: cpu, gpu, cpu-short, gpu-short."""
    return queue.value if lane is RunLane.LONG else f"{queue.value}-{lane.value}"


def publish(celery: Celery, id: uuid.UUID, queue: RunQueue, lane: RunLane) -> None:
    """Send the message of a run, once.

    Raises:
        Exception: any error of the transport.
    """
    impatient = {"socket_connect_timeout": 1, "socket_timeout": 1, "max_retries": 0}
    with celery.connection_for_write(transport_options=impatient) as connection:
        name = message_queue(queue, lane)
        celery.send_task(EXECUTE, [str(id)], connection=connection, queue=name, retry=False)


def run_consumer(settings: Settings, queues: Collection[RunQueue], consumer: Consumer) -> int:
    """Receive messages and poll until SIGTERM or SIGINT; the exit status of the process."""
    celery = create_celery(settings)
    steps: dict[str, set[Any]] = celery.steps
    steps["worker"].add(_Polling)

    @celery.task(name=EXECUTE)
    def execute(run_id: str) -> None:
        logger.info("Received the message of run %s", run_id)
        consumer.execute(uuid.UUID(run_id))

    def stop(**_about: Any) -> None:
        consumer.stop()

    def configure(**_about: Any) -> None:
        configure_logging(settings)

    # Celery then leaves the logging alone.
    signals.setup_logging.connect(configure, weak=False)
    # Celery itself acts on a signal only seconds later.
    signals.worker_shutting_down.connect(stop, weak=False)
    worker = celery.Worker(
        queues=[message_queue(queue, lane) for queue in queues for lane in consumer.lanes],
        # A run's program is a separate process; its thread only watches it.
        pool="threads",
        concurrency=len(consumer.lanes),
        hostname=f"xray-{os.getpid()}@{socket.gethostname()}",
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        consumer_of_runs=consumer,
    )
    worker.start()
    return int(worker.exitcode or 0)


class _Polling(bootsteps.StartStopStep):
    """Polls for queued runs from the start to the stop of the Celery worker."""

    # Not the broker: polling works without one.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, consumer_of_runs: Consumer, **options: Any):
        super().__init__(parent, **options)
        self._consumer = consumer_of_runs

    def start(self, parent: Any) -> None:
        """Start polling once there is a pool, the threads that messages use as well."""
        self._thread = threading.Thread(
            target=self._consumer.poll, args=(parent.pool.executor,), daemon=True
        )
        self._thread.start()

    def close(self, _parent: Any) -> None:
        """End the current run, which Celery waits for."""
        self._consumer.stop()

    def stop(self, _parent: Any) -> None:
        """Wait for the last poll."""
        self._thread.join()
