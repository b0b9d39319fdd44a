"""Pages of validations: start one, view its result, use its thresholds for a clinic, go back."""

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.dependencies import ActingAdmin, Admin
from app.accounts.tables import Clinic
from app.core.errors import InvalidForm
from app.core.templating import page
from app.registry.queries import serving_sha256
from app.runs.broker import notify_workers
from app.runs.forms import fields_of
from app.runs.heartbeat import workers_alive
from app.runs.links import run_url
from app.runs.queue import STATUS_NAMES, get_run
from app.runs.run_types import RUN_TYPES
from app.runs.service import create_run
from app.runs.tables import Run, RunStatus
from app.services import CurrentServices, CurrentSession, Services
from app.validation.service import (
    RUN_TYPE,
    find_version,
    report_of,
    use_again,
    use_classifier,
    use_report,
)
from app.validation.views import (
    clinics_by_id,
    threshold_text,
    validations,
    version_views,
)
from ml.reporting import validation_report as texts
from ml.texts import msg

router = APIRouter(prefix="/validate", include_in_schema=False)
Text = Annotated[str, Form(max_length=2000)]


@router.get("")
def overview(
    request: Request, current: CurrentServices, opened: CurrentSession, _user: Admin
) -> HTMLResponse:
    """Start a validation; past ones; the thresholds of all clinics."""
    return _overview(request, current, opened)


def _overview(
    request: Request,
    current: Services,
    opened: Session,
    status: HTTPStatus = HTTPStatus.OK,
    **about: object,
) -> HTMLResponse:
    given = {"faults": {}, "typed": {}} | about
    serving = serving_sha256(opened, current.settings)
    fields = {field.name: field for field in fields_of(RUN_TYPES[RUN_TYPE], opened, serving)}
    return page(
        request,
        "validation/validations.html",
        status,
        fields=fields,
        validations=validations(opened),
        versions=version_views(opened),
        workers=workers_alive(current.settings),
        **given,
    )


@router.post("")
def start(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    data: Text = "",
    bundle: Text = "",
    sensitivity: Text = "",
    prevalence: Text = "",
) -> Response:
    """Start a validation as a run."""
    typed = {
        "data": data,
        "bundle": bundle,
        "sensitivity": sensitivity,
        "prevalence": prevalence,
    }
    try:
        run = create_run(opened, RUN_TYPE, typed, requested_by=user.actor)
    except InvalidForm as refused:
        opened.rollback()
        return _overview(
            request, current, opened, refused.status, faults=refused.faults, typed=typed
        )
    opened.commit()
    notify_workers(current.settings, run)
    return RedirectResponse(f"/validate/{run.id}", HTTPStatus.SEE_OTHER)


@router.get("/{id}")
def show(request: Request, opened: CurrentSession, _user: Admin, id: uuid.UUID) -> HTMLResponse:
    """The result of a validation, or how far it is."""
    return _result(request, opened, get_run(opened, id))


def _result(
    request: Request,
    opened: Session,
    run: Run,
    status: HTTPStatus = HTTPStatus.OK,
    **about: object,
) -> HTMLResponse:
    given: dict[str, object] = {"faults": {}, "typed": {}} | about
    given |= {
        "run_url": run_url(run.id),
        "status_name": STATUS_NAMES[run.status],
        "reason": run.reason,
        "is_running": run.status in (RunStatus.QUEUED, RunStatus.RUNNING),
    }
    if run.status is not RunStatus.SUCCEEDED:
        return page(request, "validation/validation.html", status, report=None, **given)
    report = report_of(run)
    labelled = report.labelled
    return page(
        request,
        "validation/validation.html",
        status,
        report=report,
        run_id=run.id,
        clinics=clinics_by_id(opened),
        auroc=list(texts.auroc_rows(report)),
        points=[texts.point_row(one) for one in labelled.operating_points] if labelled else [],
        rules=[texts.rule_row(one) for one in labelled.rules] if labelled else [],
        estimates=list(texts.estimate_rows(report)),
        decisions=list(texts.decision_rows(report)),
        drift=list(texts.drift_rows(report)),
        thresholds=threshold_text(labelled.thresholds) if labelled else "",
        answers_nothing=labelled is not None and min(labelled.thresholds.values()) > 1,
        report_url=f"/admin/runs/{run.id}/files/{texts.PAGE}",
        json_url=f"/admin/runs/{run.id}/files/{texts.VALIDATION}",
        **given,
    )


@router.post("/{id}/thresholds")
def use_thresholds(
    request: Request,
    opened: CurrentSession,
    user: ActingAdmin,
    id: uuid.UUID,
    clinic: Text = "",
    why: Text = "",
) -> Response:
    """Let a clinic use the thresholds of a validation."""
    run = get_run(opened, id)
    try:
        use_report(opened, _clinic(opened, clinic), run, why=why, by=user.actor)
    except InvalidForm as refused:
        opened.rollback()
        typed = {"clinic": clinic, "why": why}
        return _result(request, opened, run, refused.status, faults=refused.faults, typed=typed)
    return _done(opened)


@router.post("/thresholds/{number}")
def use_earlier_version(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    number: int,
    which: Text = "version",
    why: Text = "",
) -> Response:
    """Let a clinic use an earlier version again, or the thresholds of the classifier."""
    row = find_version(opened, number)
    try:
        if which == "classifier":
            use_classifier(opened, row.clinic, row.model_sha256, why=why, by=user.actor)
        else:
            use_again(opened, row, why=why, by=user.actor)
    except InvalidForm as refused:
        opened.rollback()
        faults = {f"why-{number}": refused.faults["why"]}
        return _overview(request, current, opened, refused.status, faults=faults)
    return _done(opened)


def _clinic(opened: Session, id: str) -> Clinic:
    try:
        found = opened.get(Clinic, uuid.UUID(id))
    except ValueError:
        found = None
    if found is None:
        raise InvalidForm({"clinic": msg("Choose a clinic from the list.")})
    return found


def _done(opened: Session) -> RedirectResponse:
    opened.commit()
    return RedirectResponse("/validate#thresholds", HTTPStatus.SEE_OTHER)
