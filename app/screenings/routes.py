"""Screening an image in the browser: upload, answer, history, sharing, deleting."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePath
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError
from starlette.datastructures import UploadFile

from app.accounts.dependencies import ActingUser
from app.accounts.owner import Owner
from app.core.addresses import site_address
from app.core.admission import CallerKind
from app.core.audit import AuditEvent
from app.core.errors import AppError, Conflict, InvalidForm, NotFound
from app.core.language import class_list
from app.core.templating import page
from app.screenings.beside import Beside, find_beside
from app.screenings.csv_export import csv_rows
from app.screenings.dependencies import (
    OwnedScreeningToChange,
    Uploader,
    Visible,
    VisibleScreening,
    Visitor,
    VisitorImages,
    WritingVisitor,
    remember,
)
from app.screenings.filters import LONGEST_REFERENCE, Filtered, ScreeningFilter, checked_reference
from app.screenings.lists import ListState, summaries
from app.screenings.queries import (
    count_screenings,
    neighbour_ids,
    screenings_page,
)
from app.screenings.reviews import (
    LONGEST_FINDING,
    LONGEST_WHY,
    SentReview,
    is_blind,
    readings,
    review,
    review_choices,
    review_id,
)
from app.screenings.samples import SAMPLES
from app.screenings.schemas import UploadResult
from app.screenings.service import SentLabels
from app.screenings.sharing import is_shared, share, stop_sharing
from app.screenings.stored_images import image_key, thumbnail_key
from app.screenings.tables import Screening
from app.screenings.thresholds import thresholds_of
from app.screenings.uploads import BOUNDED_BY_READER
from app.screenings.views import (
    ReviewView,
    ScreeningView,
    heatmap_of,
)
from app.services import CurrentServices, CurrentSession
from ml.classifier.predictor import UNCERTAIN, decision_name
from ml.imaging.image_files import is_system_file
from ml.labels import NO_CLASS, label_name
from ml.texts import msg

router = APIRouter(include_in_schema=False)
RECENT = 6
# Pictures belong to one visitor: no cache keeps them, so a deleted image is gone. A picture opened
# by itself runs nothing.
_PRIVATE = {"Cache-Control": "private, no-store", "Content-Security-Policy": "sandbox"}


@dataclass(frozen=True, slots=True)
class UploadError:
    """One image of a form that was refused."""

    file: str | None
    title: str
    detail: str


@router.get("/")
def index(
    request: Request, current: CurrentServices, opened: CurrentSession, owner: Visitor
) -> HTMLResponse:
    """The page where an image is put in."""
    return upload_page(request, current, opened, owner, [], HTTPStatus.OK)


def upload_page(
    request: Request,
    current: CurrentServices,
    opened: Session,
    owner: Owner,
    errors: list[UploadError],
    status: HTTPStatus,
) -> HTMLResponse:
    """The upload page, with what was wrong with the last upload."""
    recent = screenings_page(opened, owner, size=RECENT)
    card = current.classifier.card
    return page(
        request,
        "screenings/index.html",
        status,
        model=card,
        classes=class_list(current.classifier.labels),
        samples=() if owner.clinic_id or card is None else SAMPLES,
        recent=summaries(opened, recent.rows, request.state.user),
        errors=errors,
        max_upload_mb=current.settings.max_upload_mb,
        visitor_days=current.settings.effective_visitor_days,
    )


@router.post("/screenings", max_body_size=BOUNDED_BY_READER)
def create(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    owner: WritingVisitor,
    caller: Uploader,
    form: VisitorImages,
) -> Response:
    """Answer the images of a form; a script asks for JSON and sends one at a time."""
    images = form.images
    address = caller.name if caller.kind is CallerKind.VISITOR else None
    if "application/json" in request.headers.get("accept", ""):
        # A refusal reaches the script as problem+json through the error handler.
        labels = _labels(images[0], form.fields)
        row = current.screenings.screen(images[0].file, owner, labels, visitor_address=address)
        thresholds = thresholds_of(opened, [row])[row.id]
        result = UploadResult.of(row, thresholds).model_dump(mode="json")
        response: Response = JSONResponse(result, HTTPStatus.CREATED)
        remember(response, owner, current.settings)
        return response
    answered: list[Screening] = []
    errors: list[UploadError] = []
    refusal: AppError | None = None
    for image in _without_system_files(images):
        try:
            labels = _labels(image, form.fields)
            answered.append(
                current.screenings.screen(image.file, owner, labels, visitor_address=address)
            )
        except AppError as refused:
            errors.append(UploadError(image.filename, refused.title, refused.detail))
            refusal = refused
    if refusal:
        response = upload_page(request, current, opened, owner, errors, refusal.status)
        response.headers.update(refusal.headers)
    elif len(answered) == 1:
        response = RedirectResponse(f"/screenings/{answered[0].id}", HTTPStatus.SEE_OTHER)
    else:
        response = RedirectResponse("/screenings", HTTPStatus.SEE_OTHER)
    if answered:
        remember(response, owner, current.settings)
    return response


def _without_system_files(images: list[UploadFile]) -> list[UploadFile]:
    """Images of a form, without what systems put beside them; all where nothing else is sent."""
    wanted = [image for image in images if not is_system_file(PurePath(image.filename or ""))]
    return wanted or images


def _labels(image: UploadFile, fields: Mapping[str, str]) -> SentLabels:
    """The reference that was typed or, where the sender wants it, the name of the file."""
    typed = fields.get("reference", "")
    named = (image.filename or "")[-LONGEST_REFERENCE:] if fields.get("keep-names") else ""
    return SentLabels(checked_reference(typed or named))


@router.get("/screenings.csv")
def export(
    request: Request, current: CurrentServices, owner: Visitor, chosen: Filtered
) -> StreamingResponse:
    """The filtered list as a CSV file."""
    lines = csv_rows(current.database, owner, chosen, request.state.user)
    headers = {"Content-Disposition": 'attachment; filename="screenings.csv"'}
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/screenings")
def history(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    owner: Visitor,
    chosen: Filtered,
    shown: Annotated[ListState, Depends()],
) -> HTMLResponse:
    """The screenings of the visitor or of the user's clinic, all or filtered."""
    found = screenings_page(opened, owner, shown.before, chosen=chosen)
    following = chosen.address("/screenings", before=found.next_cursor)
    total = count_screenings(opened, owner)
    # Those of the active classifier, and ones of an earlier one that the address names.
    known = current.classifier.labels
    decisions = dict.fromkeys((*known, UNCERTAIN, *filter(None, [chosen.decision])))
    labels = dict.fromkeys((*known, *filter(None, [chosen.label])))
    return page(
        request,
        "screenings/history.html",
        screenings=summaries(opened, found.rows, request.state.user, chosen.query()),
        next_url=following if found.next_cursor else None,
        total=total,
        matching=total if chosen.is_empty else count_screenings(opened, owner, chosen),
        chosen=chosen,
        decisions={one: decision_name(one) for one in decisions},
        labels={one: decision_name(one) for one in labels},
        export_url=chosen.address("/screenings.csv"),
        shown=shown,
        select_all_url=chosen.address("/screenings", before=shown.before, selected="all"),
        filter_fields=chosen.fields(),
        longest_reference=LONGEST_REFERENCE,
    )


@router.get("/screenings/{id}")
def show(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    owner: Visitor,
    visible: Visible,
    chosen: Filtered,
    beside: uuid.UUID | None = None,
) -> HTMLResponse:
    """The answer to one image, between its neighbours in the filtered list."""
    about: dict[str, object] = {}
    if visible.can_manage:
        near = neighbour_ids(opened, owner, visible.row, chosen)
        named = zip(("previous", "next"), near, strict=True)
        about["near"] = {
            name: chosen.address(f"/screenings/{other}") for name, other in named if other
        }
        others = [other for other in near if other]
        about["beside"] = find_beside(opened, owner, visible.row, others, beside)
    return screening_page(
        request, current, opened, visible, about=_addresses(visible, chosen) | about
    )


def _addresses(visible: VisibleScreening, chosen: ScreeningFilter) -> dict[str, object]:
    """Where the page of a screening leads, within the filtered list."""
    return {
        "list_url": chosen.address("/screenings"),
        "review_url": chosen.address(f"/screenings/{visible.row.id}/review"),
        "filter_fields": chosen.fields(),
    }


def screening_page(
    request: Request,
    current: CurrentServices,
    opened: Session,
    visible: VisibleScreening,
    status: HTTPStatus = HTTPStatus.OK,
    *,
    about: Mapping[str, object],
) -> HTMLResponse:
    """The page of a screening; `about` is where it leads, and what was wrong with a review."""
    row = visible.row
    shared = visible.can_manage and is_shared(row)
    # Who said what of the image is for the owner alone, not for people with a link.
    found = readings(opened, row.id) if visible.can_manage else []
    is_second_reader = is_blind(request.state.user, found)
    return page(
        request,
        "screenings/screening.html",
        status,
        screening=ScreeningView.of(
            row, thresholds_of(opened, [row])[row.id], share_token=visible.share_token
        ),
        can_manage=visible.can_manage,
        share_url=f"{site_address(request)}/screenings/{row.id}?share={row.share_token}"
        if shared
        else None,
        page_url=f"{site_address(request)}/screenings/{row.id}",
        shared_until=row.shared_until if shared or visible.share_token else None,
        reviews=[] if is_second_reader else [ReviewView.of(one, row.label) for one in found],
        is_second_reader=is_second_reader,
        seen=review_id(found[0] if found else None),
        labels={
            label: label_name(label) for label in review_choices(row, current.classifier.labels)
        },
        no_class=NO_CLASS,
        longest_why=LONGEST_WHY,
        longest_finding=LONGEST_FINDING,
        **{"faults": {}, "typed": {}, "near": {}, "beside": Beside([], None), **about},
    )


@router.get("/screenings/{id}/image")
def image(current: CurrentServices, visible: Visible) -> Response:
    """The image, without any metadata of its file."""
    return _picture(current, image_key(visible.row.id), visible.row.image_type)


@router.get("/screenings/{id}/thumbnail")
def thumbnail(current: CurrentServices, visible: Visible) -> Response:
    """The image, small."""
    return _picture(current, thumbnail_key(visible.row.id), "image/jpeg")


def _picture(current: CurrentServices, key: str, media_type: str) -> Response:
    chunks = current.storage.stream(key)
    if chunks is None:
        raise NotFound(msg("The image is no longer stored."))
    # In pieces: a reader that does not read must not hold the whole image in memory.
    return StreamingResponse(chunks, media_type=media_type, headers=_PRIVATE)


@router.get("/screenings/{id}/heatmaps/{label}.png")
def heatmap(visible: Visible, label: str) -> Response:
    """Where the model's evidence for one class lies."""
    return Response(heatmap_of(visible.row, label), media_type="image/png", headers=_PRIVATE)


@router.post("/screenings/{id}/share")
def start_sharing(
    current: CurrentServices,
    opened: CurrentSession,
    owner: WritingVisitor,
    screening: OwnedScreeningToChange,
) -> RedirectResponse:
    """Create a link with which anyone can see this screening."""
    share(screening, current.settings.share_days)
    return _changed(opened, owner, screening, "screening.shared")


@router.post("/screenings/{id}/unshare")
def unshare(
    opened: CurrentSession, owner: WritingVisitor, screening: OwnedScreeningToChange
) -> RedirectResponse:
    """Make the shared link dead."""
    stop_sharing(screening)
    return _changed(opened, owner, screening, "screening.unshared")


def _changed(opened: Session, owner: Owner, screening: Screening, action: str) -> RedirectResponse:
    opened.add(AuditEvent(actor=owner.actor, action=action, subject=str(screening.id)))
    try:
        opened.commit()
    except StaleDataError as problem:
        raise NotFound(msg("This screening has been deleted.")) from problem
    return RedirectResponse(f"/screenings/{screening.id}", HTTPStatus.SEE_OTHER)


class ReviewForm(BaseModel):
    """The fields of a review as the page sends them; `SentReview` says what they mean."""

    label: str = Field(default="", max_length=50)
    why: str = Field(default="", max_length=10_000)
    patient: str = Field(default="", max_length=1_000)
    finding: str = Field(default="", max_length=1_000)
    seen: str | None = Field(default=None, max_length=40)


@router.post("/screenings/{id}/review")
def add_review(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingUser,
    screening: OwnedScreeningToChange,
    chosen: Filtered,
    form: Annotated[ReviewForm, Form()],
) -> Response:
    """Confirm the prediction, or say what is right."""
    try:
        review(
            opened,
            screening,
            user,
            SentReview(**form.model_dump()),
            choices=review_choices(screening, current.classifier.labels),
            signing_key=current.settings.signing_key,
        )
    except (InvalidForm, Conflict) as refused:
        visible = VisibleScreening(screening, can_manage=True, share_token=None)
        faults = refused.faults if isinstance(refused, InvalidForm) else {"stale": refused.detail}
        return screening_page(
            request,
            *(current, opened, visible, refused.status),
            about=_addresses(visible, chosen)
            | {"faults": faults, "typed": form.model_dump(exclude={"seen"})},
        )
    shown = chosen.address(f"/screenings/{screening.id}")
    return RedirectResponse(f"{shown}#review", HTTPStatus.SEE_OTHER)


@router.post("/screenings/{id}/delete")
def delete(
    current: CurrentServices,
    opened: CurrentSession,
    owner: WritingVisitor,
    screening: OwnedScreeningToChange,
) -> RedirectResponse:
    """Delete the image and its prediction."""
    current.screenings.delete(opened, screening, owner)
    return RedirectResponse("/screenings", HTTPStatus.SEE_OTHER)
