"""Probes for an orchestrator."""

import logging
from http import HTTPStatus

from fastapi import APIRouter, Response
from sqlalchemy import select

from app.core.errors import NotReady
from app.screenings.tables import Screening
from app.services import CurrentServices

logger = logging.getLogger(__name__)
router = APIRouter(tags=["health"])


@router.get("/livez", summary="Is the process alive?")
async def livez() -> dict[str, str]:
    """Answers as long as the process can answer anything."""
    return {"status": "alive"}


@router.get("/readyz", summary="Can images be answered?")
def readyz(current: CurrentServices, response: Response) -> dict[str, str]:
    """Names every part that images need and whether it works; 503 unless all do."""
    checks = {
        "classifier": lambda: current.classifier.get(timeout_s=0),
        "database": lambda: _ask_database(current),
        "storage": current.storage.check,
    }
    states = {}
    for name, check in checks.items():
        try:
            check()
            states[name] = "ready"
        except Exception as problem:
            # The probe says which part fails; the reason may contain addresses and goes to the log.
            logger.warning("%s is not ready: %s", name, problem)
            states[name] = "not ready" if isinstance(problem, NotReady) else "failing"
    if any(state != "ready" for state in states.values()):
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return states


def _ask_database(current: CurrentServices) -> None:
    with current.database.sessions() as opened:
        opened.execute(select(Screening.id).limit(1))
