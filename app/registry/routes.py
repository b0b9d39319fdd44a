"""The console's room of models: the registry, comparisons, and what is active."""

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from sqlalchemy.orm import Session

from app.accounts.dependencies import ActingAdmin, Admin
from app.core.archives import zip_response
from app.core.errors import AppError, BadForm, Busy, NotFound
from app.core.safe_files import file_in
from app.core.templating import page
from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import data_folder, list_data
from app.registry.activation import (
    LEAST_OVERRIDE,
    activate,
    archive,
    restore,
    roll_back,
    roll_back_target,
)
from app.registry.comparison_views import Change, ComparisonView
from app.registry.files import CLASSIFIER_FILES, GENERATOR_FILES, model_folder
from app.registry.queries import find_model, newest_activation, serving_sha256
from app.registry.tables import Comparison, ModelKind, ModelVersion
from app.registry.views import RegisteredView, activations, load_faults, summaries
from app.runs.broker import notify_workers
from app.runs.service import create_run
from app.screenings.decoder import DecoderUnavailable
from app.services import CurrentServices, CurrentSession, Services
from ml.imaging.types import UnreadableImage

router = APIRouter(prefix="/admin/models", include_in_schema=False)
# Images of people: no cache keeps them, and a picture opened by itself runs nothing.
_PRIVATE = {"Cache-Control": "private, no-store", "Content-Security-Policy": "sandbox"}
# Only the thumbnail is wanted, so the model input may be as small as can be.
_LEAST_INPUT = 16
Seen = Annotated[str, Form(max_length=64)]


@router.get("")
def registry(
    request: Request, current: CurrentServices, opened: CurrentSession, _user: Admin
) -> HTMLResponse:
    """All models, and which classifier answers images."""
    return _registry_page(request, current, opened)


def _registry_page(
    request: Request, current: Services, opened: Session, refusal: AppError | None = None
) -> HTMLResponse:
    settings = current.settings
    last, present = newest_activation(opened), serving_sha256(opened, settings)
    fault = current.classifier.fault
    return page(
        request,
        "registry/models.html",
        refusal.status if refusal else HTTPStatus.OK,
        classifiers=summaries(opened, settings, ModelKind.CLASSIFIER),
        generators=summaries(opened, settings, ModelKind.GENERATOR),
        present=opened.get(ModelVersion, present) if present else None,
        last=last,
        earlier=roll_back_target(opened, settings),
        activations=activations(opened),
        fault=fault,
        told=[
            reason for reason in load_faults(opened, last) if not fault or reason != fault.reason
        ],
        refusal=refusal,
    )


@router.post("/roll-back")
def go_back(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    seen: Seen = "",
) -> Response:
    """Put the classifier back active that was there before."""
    try:
        roll_back(opened, current.settings, by=user.actor, seen=seen or None)
    except AppError as refused:
        opened.rollback()
        return _registry_page(request, current, opened, refused)
    opened.commit()
    current.classifier.follow()
    return RedirectResponse("/admin/models", HTTPStatus.SEE_OTHER)


@router.get("/{sha256}")
def show(
    request: Request, current: CurrentServices, opened: CurrentSession, _user: Admin, sha256: str
) -> HTMLResponse:
    """One model: where it stands, what it came of, and what can be done with it."""
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
    shown = RegisteredView.of(opened, current.settings, model)
    present = serving_sha256(opened, current.settings)
    return page(
        request,
        "registry/model.html",
        refusal.status if refusal else HTTPStatus.OK,
        model=shown,
        present=opened.get(ModelVersion, present) if present else None,
        data_versions=list_data(opened, DataKind.IMAGES),
        chosen_data=data or shown.data_sha256,
        least_override=LEAST_OVERRIDE,
        override=override,
        refusal=refusal,
        faults=refusal.faults if isinstance(refusal, BadForm) else {},
    )


def _to_page(model: ModelVersion) -> RedirectResponse:
    return RedirectResponse(f"/admin/models/{model.sha256}", HTTPStatus.SEE_OTHER)


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
    """Put a classifier active; this process answers with it at once, the others in seconds."""
    model = find_model(opened, sha256)
    try:
        activate(
            opened,
            current.settings,
            model,
            by=user.actor,
            override=override,
            seen=seen or None,
        )
    except AppError as refused:
        opened.rollback()
        return _model_page(request, current, opened, model, refusal=refused, override=override)
    opened.commit()
    current.classifier.follow()
    return _to_page(model)


@router.post("/{sha256}/archive")
def take_out_of_use(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    sha256: str,
) -> Response:
    """Take a model out of use."""
    model = find_model(opened, sha256)
    try:
        archive(opened, current.settings, model, by=user.actor)
    except AppError as refused:
        opened.rollback()
        return _model_page(request, current, opened, model, refusal=refused)
    opened.commit()
    return _to_page(model)


@router.post("/{sha256}/restore")
def take_back_into_use(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    sha256: str,
) -> Response:
    """Take a archived model back into use."""
    model = find_model(opened, sha256)
    try:
        restore(opened, model, by=user.actor)
    except AppError as refused:
        opened.rollback()
        return _model_page(request, current, opened, model, refusal=refused)
    opened.commit()
    return _to_page(model)


@router.post("/{sha256}/compare")
def start_comparing(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    sha256: str,
    data: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Start measuring a classifier and the active one on the same test images."""
    model = find_model(opened, sha256)
    options = {
        "data": data,
        "bundle": model.sha256,
        "reference": serving_sha256(opened, current.settings) or "",
    }
    try:
        run = create_run(opened, "compare-classifiers", options, requested_by=user.actor)
    except AppError as refused:
        opened.rollback()
        return _model_page(request, current, opened, model, refusal=refused, data=data)
    opened.commit()
    notify_workers(current.settings, run)
    return RedirectResponse(f"/admin/runs/{run.id}", HTTPStatus.SEE_OTHER)


@router.get("/{sha256}/bundle.zip")
def download(
    current: CurrentServices, opened: CurrentSession, _user: Admin, sha256: str
) -> StreamingResponse:
    """The files of a model in one archive."""
    model = find_model(opened, sha256)
    names = CLASSIFIER_FILES if model.kind is ModelKind.CLASSIFIER else GENERATOR_FILES
    folder = model_folder(current.settings, model)
    files = [folder / name for name in names if (folder / name).is_file()]
    if not files:
        raise NotFound("the model's files are gone: register it again")
    return zip_response(f"{model.kind}-{sha256[:12]}.zip", {file.name: file for file in files})


@router.get("/{sha256}/compare/{id}")
def compare(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    sha256: str,
    id: uuid.UUID,
    which: Annotated[str, Query(max_length=10)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> HTMLResponse:
    """A classifier beside another one: metrics, and the images that the two answer differently."""
    which = which if which in set(Change) else ""
    row = _comparison(opened, sha256, id)
    shown = ComparisonView.of(opened, current.settings, row, which, number)
    return page(request, "registry/comparison.html", comparison=shown, which=which)


def _comparison(opened: Session, sha256: str, id: uuid.UUID) -> Comparison:
    row = opened.get(Comparison, id)
    if row is None or row.candidate_sha256 != sha256:
        raise NotFound("there is no such comparison")
    return row


@router.get("/{sha256}/compare/{id}/images/{number}.jpg")
def radiograph(
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    sha256: str,
    id: uuid.UUID,
    number: int,
) -> Response:
    """The small picture of an image that was answered differently, where it is still there."""
    row = _comparison(opened, sha256, id)
    changed = row.metrics["changed"]
    data = opened.get(DataVersion, row.data_sha256) if row.data_sha256 else None
    if data is None or not 0 <= number < len(changed):
        raise NotFound("the image is not among the registered data")
    image = changed[number]["image"]
    content = file_in(data_folder(current.settings, data), image).read_bytes()
    # As every image of people: decoded by a child that may die of it.
    try:
        decoded = current.decoder.decode(content, _LEAST_INPUT)
    except UnreadableImage as problem:
        raise NotFound("the image cannot be read any more") from problem
    except DecoderUnavailable as problem:
        raise Busy("no image can be decoded at the moment: try again") from problem
    return Response(decoded.thumbnail, media_type="image/jpeg", headers=_PRIVATE)
