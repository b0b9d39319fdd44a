"""Messages from the code that queues a run to the workers; the broker's library is imported late.

A message only makes a worker look at once: it finds queued runs without one as well.
"""

import logging
import threading
from collections.abc import Collection

from app.runs.consumer import Consumer
from app.runs.run_types import lane_of
from app.runs.tables import Run, RunQueue
from app.settings import Settings

logger = logging.getLogger(__name__)
# How long a request may wait for a broker that does not answer.
NOTIFY_TIMEOUT_S = 1.5


def notify_workers(settings: Settings, run: Run) -> None:
    """Notify the workers that a run is queued; call it after the commit that queued it.

    It returns within two seconds whatever the broker does, and never fails: without a message, the
    next worker that polls finds the run.
    """
    # A thread, as no setting bounds a name lookup, and Celery takes long to import.
    sender = threading.Thread(target=_publish, args=(settings, run), daemon=True)
    sender.start()
    sender.join(NOTIFY_TIMEOUT_S)
    if sender.is_alive():
        logger.warning("The broker does not answer. Run %s waits for the next poll.", run.id)


def _publish(settings: Settings, run: Run) -> None:
    try:
        # Imported late: the server has no Celery unless it is installed for workers.
        from app.runs.celery_broker import create_celery, publish

        publish(create_celery(settings), run.id, run.queue, lane_of(run.run_type))
    except ModuleNotFoundError as missing:
        if missing.name not in ("celery", "kombu", "redis"):
            raise
        logger.info("%s is not installed. Run %s waits for the next poll.", missing.name, run.id)
    except Exception as problem:
        # Every transport has its own errors, and none of them concerns the person who started it.
        logger.warning("Not sent: %s. Run %s waits for the next poll.", problem, run.id)


def consume(settings: Settings, queues: Collection[RunQueue], consumer: Consumer) -> int:
    """Receive messages and poll until SIGTERM or SIGINT.

    Returns:
        The exit status of the process.
    """
    # Imported late, as above.
    from app.runs.celery_broker import run_consumer

    return run_consumer(settings, queues, consumer)
