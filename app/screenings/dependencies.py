"""Typed dependencies: who owns a screening and who may see it."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy.orm import Session

from app.accounts.dependencies import CurrentClinic, CurrentUser
from app.accounts.owner import Owner
from app.core.admission import Caller, CallerKind
from app.core.errors import NotFound
from app.core.rate_limit import address_of
from app.core.request_limits import use_limit
from app.core.security import (
    VISITOR_COOKIE,
    VISITOR_COOKIE_AGE_S,
    cookie_name,
    hash_api_key,
    new_visitor,
    read_visitor,
    require_same_origin,
    sign_visitor,
    visitor_cookie,
)
from app.screenings.sharing import opens
from app.screenings.tables import Screening
from app.screenings.uploads import ImageForm
from app.services import CurrentServices, CurrentSession
from app.settings import Settings
from ml.texts import msg


async def visitor(request: Request, current: CurrentServices, user: CurrentUser) -> Owner:
    """The owner of a browser's screenings: the signed-in user's clinic, or its visitor cookie."""
    if user is not None and user.clinic_id is not None:
        return Owner(clinic_id=user.clinic_id)
    cookie = visitor_cookie(request.cookies, current.settings)
    found = read_visitor(cookie, current.settings.signing_key)
    return Owner(visitor_id=found)


Visitor = Annotated[Owner, Depends(visitor)]


async def writing_visitor(request: Request, known: Visitor) -> Owner:
    """The visitor who sends a form from our own pages; a new one where there was none."""
    require_same_origin(request.headers)
    return known if known.visitor_id or known.clinic_id else Owner(visitor_id=new_visitor())


WritingVisitor = Annotated[Owner, Depends(writing_visitor)]


def remember(response: Response, owner: Owner, settings: Settings) -> None:
    """Set the visitor's cookie, which script cannot read and other sites cannot send.

    A clinic's images need none: who is signed in sees them.
    """
    if owner.visitor_id is None:
        return
    response.set_cookie(
        cookie_name(VISITOR_COOKIE, settings),
        sign_visitor(owner.visitor_id, settings.signing_key),
        max_age=VISITOR_COOKIE_AGE_S,
        httponly=True,
        samesite="lax",
        secure=settings.secure_cookies,
    )


def uploader(request: Request, user: CurrentUser) -> Caller:
    """Whom an upload from our own pages is counted for."""
    if user is not None:
        return Caller(CallerKind.USER, str(user.id))
    return Caller(CallerKind.VISITOR, address_of(request))


Uploader = Annotated[Caller, Depends(uploader)]


def limited_uploader(
    request: Request, _owner: WritingVisitor, current: CurrentServices, caller: Uploader
) -> Caller:
    """The uploader, within its rate limit."""
    limits = current.request_limits
    use_limit(request, limits.users if caller.kind is CallerKind.USER else limits.visitors, caller)
    return caller


def limited_key(request: Request, current: CurrentServices, _owner: CurrentClinic) -> Caller:
    """The valid API key of a request, within its rate limit."""
    _, key = get_authorization_scheme_param(request.headers["authorization"])
    caller = Caller(CallerKind.KEY, hash_api_key(key))
    use_limit(request, current.request_limits.keys, caller)
    return caller


async def visitor_images(
    request: Request,
    current: CurrentServices,
    caller: Annotated[Caller, Depends(limited_uploader)],
) -> AsyncIterator[ImageForm]:
    """The images of a form sent from our own pages, when it is their turn."""
    most, max_bytes = current.settings.max_images_per_form, current.settings.max_upload_bytes
    async with (
        current.intake.images(request, caller, most=most, max_bytes=max_bytes) as form,
        current.turns.turn(caller, len(form.images)),
    ):
        yield form


async def clinic_image(
    request: Request,
    current: CurrentServices,
    caller: Annotated[Caller, Depends(limited_key)],
) -> AsyncIterator[ImageForm]:
    """The one image of an API call, when it is its turn; the key is checked before it is read."""
    max_bytes = current.settings.max_upload_bytes
    async with (
        current.intake.images(request, caller, most=1, max_bytes=max_bytes) as form,
        current.turns.turn(caller),
    ):
        yield form


async def one_turn(
    current: CurrentServices, caller: Annotated[Caller, Depends(limited_uploader)]
) -> AsyncIterator[Caller]:
    """Who has an image screened that is here already, when it is their turn."""
    async with current.turns.turn(caller):
        yield caller


# Their turn ends when the route returns, not when a slow reader has taken the answer.
VisitorImages = Annotated[ImageForm, Depends(visitor_images, scope="function")]
ClinicImage = Annotated[ImageForm, Depends(clinic_image, scope="function")]
OneTurn = Annotated[Caller, Depends(one_turn, scope="function")]


def owned_screening_to_change(
    id: uuid.UUID, opened: CurrentSession, owner: WritingVisitor
) -> Screening:
    """A screening of this visitor, for a form sent from our own pages."""
    return _owned(opened, id, owner)


def clinic_screening(id: uuid.UUID, opened: CurrentSession, owner: CurrentClinic) -> Screening:
    """A screening of this clinic; anyone else's does not exist."""
    return _owned(opened, id, owner)


def _owned(opened: Session, id: uuid.UUID, owner: Owner) -> Screening:
    screening = opened.get(Screening, id)
    if screening is None or not owner.owns(screening):
        raise NotFound(msg("This screening does not exist, or you have no access to it."))
    return screening


@dataclass(frozen=True, slots=True)
class VisibleScreening:
    """A screening that the caller may see, and as what."""

    row: Screening
    can_manage: bool
    share_token: str | None  # the link it was reached by


def visible_screening(
    id: uuid.UUID, opened: CurrentSession, owner: Visitor, share: str | None = None
) -> VisibleScreening:
    """A screening of this visitor, or one shared by a link that is still alive."""
    screening = opened.get(Screening, id)
    if screening is not None and owner.owns(screening):
        return VisibleScreening(screening, can_manage=True, share_token=None)
    if screening is None or not share or not opens(screening, share):
        raise NotFound(msg("This screening does not exist, or you have no access to it."))
    return VisibleScreening(screening, can_manage=False, share_token=share)


OwnedScreeningToChange = Annotated[Screening, Depends(owned_screening_to_change)]
ClinicScreening = Annotated[Screening, Depends(clinic_screening)]
Visible = Annotated[VisibleScreening, Depends(visible_screening)]
