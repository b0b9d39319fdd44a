"""The page of the monitoring: the state of each clinic, alarms, undelivered notifications."""

import uuid
from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from app.accounts.dependencies import ActingAdmin, Admin
from app.core.notifications import undelivered
from app.core.templating import page
from app.monitoring.service import PAGE, acknowledge, check_clinics, clinic_states, list_alarms
from app.monitoring.views import AlarmView, StateView
from app.services import CurrentServices, CurrentSession
from ml.evaluation.monitoring import BLOCK_IMAGES, FALSE_ALARMS, REFERENCE_IMAGES

router = APIRouter(prefix=PAGE, include_in_schema=False)


@router.get("")
def show(
    request: Request, current: CurrentServices, opened: CurrentSession, _user: Admin
) -> HTMLResponse:
    """Every clinic and every alarm."""
    return page(
        request,
        "monitoring/monitoring.html",
        states=[StateView.of(state) for state in clinic_states(opened)],
        alarms=[AlarmView.of(row) for row in list_alarms(opened)],
        undelivered=undelivered(opened),
        is_announced=bool(current.settings.channels_of("monitoring.alarm")),
        reference_images=REFERENCE_IMAGES,
        block_images=BLOCK_IMAGES,
        false_alarms=FALSE_ALARMS,
    )


@router.post("/check")
def check(current: CurrentServices, _user: ActingAdmin) -> RedirectResponse:
    """Look for changes now; the server does it every hour."""
    check_clinics(current.database, current.settings)
    return RedirectResponse(PAGE, HTTPStatus.SEE_OTHER)


@router.post("/alarms/{id}")
def acknowledge_alarm(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Record that an admin has seen an alarm."""
    acknowledge(opened, id, by=user.actor)
    opened.commit()
    return RedirectResponse(PAGE, HTTPStatus.SEE_OTHER)
