"""The console's pages of data sets: the list, one version, and adding images."""

import shutil
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.dependencies import ActingAdmin, Admin
from app.core.errors import AppError, InvalidForm, NotFound
from app.core.templating import page
from app.datasets.imports import LAYOUT_NAMES, new_staging_folder, read_order, start_import
from app.datasets.links import data_url
from app.datasets.tables import DataKind
from app.datasets.upload import ArchiveForm, ArchiveLimits, read_archive_form
from app.datasets.versions import allow_in_quiz, data_folder, find_data, list_data, rename_data
from app.datasets.views import CONTACT_SHEET, DataView, data_summaries
from app.runs.broker import notify_workers
from app.runs.links import run_url
from app.screenings.reviews import count_reviewed
from app.screenings.uploads import BOUNDED_BY_READER
from app.services import CurrentServices, CurrentSession
from ml.labels import label_name, ordered_labels
from ml.texts import msg

router = APIRouter(prefix="/admin", include_in_schema=False)
# Images of people: no cache keeps them, and a picture opened by itself runs nothing.
_PRIVATE = {"Cache-Control": "private, no-store", "Content-Security-Policy": "sandbox"}


@router.get("/data")
def versions(request: Request, opened: CurrentSession, _user: Admin) -> HTMLResponse:
    """List all data set versions, newest first."""
    found = data_summaries(list_data(opened))
    labels = ordered_labels(label for version in found for label in version.by_label)
    return page(
        request,
        "datasets/datasets.html",
        versions=found,
        labels={label: label_name(label) for label in labels},
    )


@router.get("/data/new")
def new(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    base: str = "",
) -> HTMLResponse:
    """The form of a data set to be."""
    return _form_page(request, current, opened, typed={"base": base})


def _form_page(
    request: Request,
    current: CurrentServices,
    opened: Session,
    *,
    typed: dict[str, str],
    refusal: AppError | None = None,
) -> HTMLResponse:
    response = page(
        request,
        "datasets/new.html",
        refusal.status if refusal else HTTPStatus.OK,
        layouts=LAYOUT_NAMES,
        bases=list_data(opened, DataKind.IMAGES),
        reviewed=count_reviewed(opened),
        max_archive_mb=current.settings.max_archive_mb,
        typed=typed,
        faults=refusal.faults if isinstance(refusal, InvalidForm) else {},
        refusal=refusal,
    )
    response.headers.update(refusal.headers if refusal else {})
    return response


async def _sent_form(
    request: Request, current: CurrentServices, _user: ActingAdmin
) -> AsyncIterator[ArchiveForm]:
    """The form; its archive is on the disk until the request is over, unless a run needs it."""
    settings = current.settings
    limits = ArchiveLimits(
        max_bytes=settings.max_archive_bytes,
        min_free_bytes=settings.min_free_mb * 1_000_000,
        stall_s=settings.upload_timeout_s,
    )
    form, folder = ArchiveForm(), new_staging_folder(settings)
    try:
        try:
            form = await read_archive_form(request, folder, limits)
        except AppError as refused:
            form.refusal = refused
        yield form
    finally:
        if not form.kept:
            shutil.rmtree(folder, ignore_errors=True)


@router.post("/data/new", max_body_size=BOUNDED_BY_READER)
def create(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    form: Annotated[ArchiveForm, Depends(_sent_form)],
) -> Response:
    """Start the import of an archive or of a folder of this server."""
    try:
        if form.refusal:
            raise form.refusal
        order = read_order(opened, current.settings, form.fields, form.archive)
    except AppError as refused:
        return _form_page(request, current, opened, typed=form.fields, refusal=refused)
    run = start_import(opened, order, by=user.actor)
    opened.commit()
    form.kept = form.archive is not None
    notify_workers(current.settings, run)
    return RedirectResponse(run_url(run.id), HTTPStatus.SEE_OTHER)


@router.get("/data/{sha256}")
def version(
    request: Request, sha256: str, current: CurrentServices, opened: CurrentSession, _user: Admin
) -> HTMLResponse:
    """What is in a data version, where it comes from and what used it."""
    return _version_page(request, sha256, current, opened)


def _version_page(
    request: Request,
    sha256: str,
    current: CurrentServices,
    opened: Session,
    *,
    typed_name: str | None = None,
    refusal: InvalidForm | None = None,
) -> HTMLResponse:
    found = find_data(opened, sha256)
    return page(
        request,
        "datasets/version.html",
        refusal.status if refusal else HTTPStatus.OK,
        data=DataView.of(opened, current.settings, found),
        typed_name=found.name if typed_name is None else typed_name,
        faults=refusal.faults if refusal else {},
    )


@router.get("/data/{sha256}/contact-sheet.jpg")
def contact_sheet(
    sha256: str, current: CurrentServices, opened: CurrentSession, _user: Admin
) -> FileResponse:
    """Some images of each class in one picture."""
    picture = data_folder(current.settings, find_data(opened, sha256)) / CONTACT_SHEET
    if not picture.is_file():
        raise NotFound(msg("This data set has no contact sheet."))
    return FileResponse(picture, media_type="image/jpeg", headers=_PRIVATE)


@router.post("/data/{sha256}/name")
def rename(
    request: Request,
    sha256: str,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingAdmin,
    name: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Call a version something else."""
    try:
        rename_data(opened, find_data(opened, sha256), name, by=user.actor)
    except InvalidForm as refused:
        return _version_page(request, sha256, current, opened, typed_name=name, refusal=refused)
    opened.commit()
    return RedirectResponse(data_url(sha256), HTTPStatus.SEE_OTHER)


@router.post("/data/{sha256}/quiz")
def switch_quiz(
    sha256: str,
    opened: CurrentSession,
    user: ActingAdmin,
    allowed: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """Let "Real or synthetic?" show images of this version, or stop it."""
    allow_in_quiz(opened, find_data(opened, sha256), allowed, by=user.actor)
    opened.commit()
    return RedirectResponse(f"{data_url(sha256)}#quiz", HTTPStatus.SEE_OTHER)
