"""The models pages of the console: the list, one model, comparisons, and their actions."""

import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from sqlalchemy.orm import Session

from app.accounts.dependencies import ActingAdmin, Admin
from app.core.archives import zip_response
from app.core.errors import AppError, Busy, Conflict, InvalidForm, NotFound
from app.core.safe_files import file_in
from app.core.templating import page
from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import data_folder, list_data
from app.registry.activation import (
    MIN_OVERRIDE_LENGTH,
    activate,
    archive,
    restore_model,
    roll_back,
)
from app.registry.activation_history import roll_back_target
from app.registry.comparison_views import ComparisonView, PredictionChange
from app.registry.files import CLASSIFIER_FILES, GENERATOR_FILES, model_folder
from app.registry.links import model_url
from app.registry.list_views import list_activations, list_load_faults, list_summaries
from app.registry.model_views import ModelDetail
from app.registry.queries import find_model, newest_activation, serving_sha256
from app.registry.tables import Comparison, ModelKind, ModelVersion
from app.registry.views import CLASSIFIER_METRICS, headline_metrics
from app.runs.broker import notify_workers
from app.runs.links import run_url
from app.runs.service import create_run
from app.screenings.decoder import DecoderUnavailable
from app.services import CurrentServices, CurrentSession, Services
from ml.imaging.types import UnreadableImage
from ml.json_model import JsonObject
from ml.texts import msg

router = APIRouter(prefix="/admin/models", include_in_schema=False)
# X-ray images of patients: not cached, and an image opened in its own tab runs no script.
_PRIVATE = {"Cache-Control": "private, no-store", "Content-Security-Policy": "sandbox"}
# Only the thumbnail is needed, so the model input is as small as it can be.
_MIN_INPUT = 16
Seen = Annotated[str, Form(max_length=64)]


def _attempt(session: Session, action: Callable[[], object]) -> AppError | None:
    """Perform and commit an action; on refusal undo it and return the reason."""
    try:
        action()
    except AppError as refusal:
        session.rollback()
        return refusal
    session.commit()
    return None


@router.get("")
def list_page(
    request: Request, current: CurrentServices, opened: CurrentSession, _user: Admin
) -> HTMLResponse:
    """All models, and the active classifier."""
    return _list_page(request, current, opened)


def _list_page(
    request: Request, current: Services, opened: Session, refusal: AppError | None = None
) -> HTMLResponse:
    settings = current.settings
    last, active = newest_activation(opened), serving_sha256(opened, settings)
    fault = current.classifier.fault
    own_reason = fault.reason if fault else None
    return page(
        request,
        "registry/models.html",
        refusal.status if refusal else HTTPStatus.OK,
        classifier_metrics=CLASSIFIER_METRICS,
        classifiers=list_summaries(opened, settings, ModelKind.CLASSIFIER),
        generators=list_summaries(opened, settings, ModelKind.GENERATOR),
        active=opened.get(ModelVersion, active) if active else None,
        last=last,
        previous=roll_back_target(opened, settings),
        activations=list_activations(opened),
        fault=fault,
        other_faults=[one for one in list_load_faults(opened, last) if one != own_reason],
        refusal=refusal,
    )


@router.get("/roll-back")
def roll_back_page(
    request: Request, current: CurrentServices, opened: CurrentSession, _user: Admin
) -> HTMLResponse:
    """What a roll back would change: both classifiers with their metrics."""
    active = serving_sha256(opened, current.settings)
    row = opened.get(ModelVersion, active) if active else None
    target = roll_back_target(opened, current.settings)
    if row is None or target is None:
        raise Conflict(msg("There is no earlier classifier to roll back to."))
    return page(
        request,
        "registry/roll_back.html",
        sides=[
            (name, model, headline_metrics(model))
            for name, model in (
                (msg("Active now"), row),
                (msg("Active after the roll back"), target),
            )
        ],
        seen=row.sha256,
        override=_last_override(opened, row),
    )


def _last_override(opened: Session, active: ModelVersion) -> str:
    """Why the active classifier was activated although promotion checks had failed."""
    last = newest_activation(opened)
    return (last.override or "") if last and last.model_sha256 == active.sha256 else ""


@router.post("/roll-back")
def roll_back_model(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    seen: Seen = "",
) -> Response:
    """Activate the earlier classifier that `roll_back_target` names."""
    refusal = _attempt(
        opened, lambda: roll_back(opened, current.settings, by=user.actor, seen=seen or None)
    )
    if refusal:
        return _list_page(request, current, opened, refusal)
    current.classifier.follow()
    return RedirectResponse("/admin/models", HTTPStatus.SEE_OTHER)


@router.get("/{sha256}")
def model_page(
    request: Request, current: CurrentServices, opened: CurrentSession, _user: Admin, sha256: str
) -> HTMLResponse:
    """One model: state, promotion checks, comparisons, lineage, and actions."""
    return _model_page(request, current, opened, find_model(opened, sha256))


def _model_page(
    request: Request,
    current: Services,
    opened: Session,
    model: ModelVersion,
    *,
    refusal: AppError | None = None,
    override: str = "",
    data: str = "",
) -> HTMLResponse:
    shown = ModelDetail.of(opened, current.settings, model)
    sha256 = serving_sha256(opened, current.settings)
    active = opened.get(ModelVersion, sha256) if sha256 else None
    return page(
        request,
        "registry/model.html",
        refusal.status if refusal else HTTPStatus.OK,
        model=shown,
        active=active,
        active_metrics=headline_metrics(active) if active else [],
        data_versions=list_data(opened, DataKind.IMAGES),
        chosen_data=data or shown.data_sha256,
        min_override_length=MIN_OVERRIDE_LENGTH,
        override=override,
        refusal=refusal,
        faults=refusal.faults if isinstance(refusal, InvalidForm) else {},
    )


def _to_page(model: ModelVersion) -> RedirectResponse:
    return RedirectResponse(model_url(model.sha256), HTTPStatus.SEE_OTHER)


@router.post("/{sha256}/activate")
def activate_model(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    sha256: str,
    seen: Seen = "",
    override: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Activate a classifier: in this process at once, in the others within seconds."""
    model, settings = find_model(opened, sha256), current.settings
    refusal = _attempt(
        opened,
        lambda: activate(
            opened, settings, model, by=user.actor, override=override, seen=seen or None
        ),
    )
    if refusal:
        return _model_page(request, current, opened, model, refusal=refusal, override=override)
    current.classifier.follow()
    return _to_page(model)


@router.post("/{sha256}/archive")
def archive_model(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    sha256: str,
) -> Response:
    """Archive a model."""
    model = find_model(opened, sha256)
    refusal = _attempt(opened, lambda: archive(opened, current.settings, model, by=user.actor))
    if refusal:
        return _model_page(request, current, opened, model, refusal=refusal)
    return _to_page(model)


@router.post("/{sha256}/restore")
def restore(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    sha256: str,
) -> Response:
    """Make an archived model available again."""
    model = find_model(opened, sha256)
    refusal = _attempt(opened, lambda: restore_model(opened, model, by=user.actor))
    if refusal:
        return _model_page(request, current, opened, model, refusal=refusal)
    return _to_page(model)


@router.post("/{sha256}/compare")
def start_comparison(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    sha256: str,
    data: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Start a run that compares a classifier with the active one."""
    model = find_model(opened, sha256)
    reference = serving_sha256(opened, current.settings) or ""
    options: JsonObject = {"data": data, "bundle": model.sha256, "reference": reference}
    return _start_run(request, current, opened, user, model, "compare-classifiers", options)


@router.post("/{sha256}/audit")
def start_audit(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    sha256: str,
    data: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Start a run that audits a classifier."""
    model = find_model(opened, sha256)
    options: JsonObject = {"data": data, "bundle": model.sha256}
    return _start_run(request, current, opened, user, model, "audit-classifier", options)


def _start_run(
    request: Request,
    current: Services,
    opened: Session,
    user: ActingAdmin,
    model: ModelVersion,
    run_type: str,
    options: JsonObject,
) -> Response:
    """Start a run about a model and lead to its page, or say on the model's why it cannot be."""
    try:
        run = create_run(opened, run_type, options, requested_by=user.actor)
    except AppError as refusal:
        opened.rollback()
        given = str(options["data"])
        return _model_page(request, current, opened, model, refusal=refusal, data=given)
    opened.commit()
    notify_workers(current.settings, run)
    return RedirectResponse(run_url(run.id), HTTPStatus.SEE_OTHER)


@router.get("/{sha256}/bundle.zip")
def download(
    current: CurrentServices, opened: CurrentSession, _user: Admin, sha256: str
) -> StreamingResponse:
    """Download the files of a model as a ZIP archive."""
    model = find_model(opened, sha256)
    names = CLASSIFIER_FILES if model.kind is ModelKind.CLASSIFIER else GENERATOR_FILES
    folder = model_folder(current.settings, model)
    files = [folder / name for name in names if (folder / name).is_file()]
    if not files:
        raise NotFound(msg("The files of this model are missing. Register it again."))
    return zip_response(f"{model.kind}-{sha256[:12]}.zip", {file.name: file for file in files})


@router.get("/{sha256}/compare/{id}")
def comparison_page(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    sha256: str,
    id: uuid.UUID,
    change: Annotated[str, Query(alias="which", max_length=10)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> HTMLResponse:
    """Two classifiers compared: metrics, and the images whose prediction changes."""
    change = change if change in set(PredictionChange) else ""
    row = _comparison(opened, sha256, id)
    shown = ComparisonView.of(opened, current.settings, row, change, number)
    return page(request, "registry/comparison.html", comparison=shown, change=change)


def _comparison(opened: Session, sha256: str, id: uuid.UUID) -> Comparison:
    row = opened.get(Comparison, id)
    if row is None or row.candidate_sha256 != sha256:
        raise NotFound(msg("This comparison does not exist."))
    return row


@router.get("/{sha256}/compare/{id}/images/{number}.jpg")
def changed_image(
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    sha256: str,
    id: uuid.UUID,
    number: int,
) -> Response:
    """The thumbnail of an image whose prediction changes, if the data set still has it."""
    row = _comparison(opened, sha256, id)
    changed = row.report.changed
    data = opened.get(DataVersion, row.data_sha256) if row.data_sha256 else None
    if data is None or not 0 <= number < len(changed):
        raise NotFound(msg("The image is not in a registered data set."))
    content = file_in(data_folder(current.settings, data), changed[number].image).read_bytes()
    # In the decoder process, as every image of a patient.
    try:
        decoded = current.decoder.decode(content, _MIN_INPUT)
    except UnreadableImage as problem:
        raise NotFound(msg("The image cannot be read any more.")) from problem
    except DecoderUnavailable as problem:
        raise Busy(msg("No image can be decoded at the moment. Try again.")) from problem
    return Response(decoded.thumbnail, media_type="image/jpeg", headers=_PRIVATE)
