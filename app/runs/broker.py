"""Telling the workers that a run waits, also from a process that may not have Celery."""

import logging
import threading

from app.runs.tables import Run
from app.settings import Settings

logger = logging.getLogger(__name__)
# How long whoever starts a run may wait for a broker that does not answer.
RING_TIMEOUT_S = 1.5


def ring(settings: Settings, run: Run) -> None:
    """Tell the workers that a run waits; call it after the commit that queued the run.

    Returns in two seconds whatever the broker does, and never fails: a run that nobody was told of
    is found by the next worker that looks for one.
    """
    # A thread, as no setting bounds how long a name is looked up, and Celery takes long to import.
    bell = threading.Thread(target=_publish, args=(settings, run), daemon=True)
    bell.start()
    bell.join(RING_TIMEOUT_S)
    if bell.is_alive():
        logger.warning("no answer from the broker: run %s waits until a worker looks", run.id)


def _publish(settings: Settings, run: Run) -> None:
    try:
        from app.runs.celery_broker import create_celery, publish

        publish(create_celery(settings), run.id, run.queue)
    except ModuleNotFoundError as missing:
        if missing.name not in ("celery", "kombu", "redis"):
            raise
        logger.info("%s is not installed: run %s waits until a worker looks", missing.name, run.id)
    except Exception as problem:
        # Every transport has errors of its own, and none of them concerns who started the run.
        logger.warning("not rung: run %s waits until a worker looks for it: %s", run.id, problem)
