"""Celery: the broker that says a run waits.

A message carries the id of a run and nothing else. What is to be done, by whom, and how far it is
stand in the run's row (see `app.runs.queue`), so a message lost, late or delivered twice does no
harm.
"""

import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from celery import Celery
from kombu.exceptions import ChannelError
from kombu.transport import filesystem

from app.runs.tables import RunQueue
from app.settings import Settings

EXECUTE = "xray.execute"


class _Channel(filesystem.Channel):
    def _get(self, *args: Any, **options: Any) -> Any:
        """Read the next message; one that another worker took, or is still writing, is none.

        Left alone, such an error ends the worker. The run behind the message is rung for again.
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
        "xray", broker=settings.broker_url or "filesystem://localhost", set_as_current=False
    )
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        # The lease brings back the run of a worker that died, so no message has to wait for an
        # acknowledgement; and a worker whose share of messages is used up does not listen, so it
        # would miss that the broker went away and be deaf from then on.
        task_acks_late=False,
        worker_prefetch_multiplier=0,
        worker_enable_remote_control=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    if not settings.broker_url:
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


def publish(celery: Celery, id: uuid.UUID, queue: RunQueue) -> None:
    """Send a run's message, without patience for a broker that is away.

    Raises:
        Exception: of whatever kind the transport has, where it was not sent.
    """
    impatient = {"socket_connect_timeout": 1, "socket_timeout": 1, "max_retries": 0}
    with celery.connection_for_write(transport_options=impatient) as connection:
        celery.send_task(EXECUTE, [str(id)], connection=connection, queue=queue.value, retry=False)
