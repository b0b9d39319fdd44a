"""Typed dependencies: who calls, what they may see. A route cannot forget the check."""

import hmac
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from app.allowance import Allowance
from app.db import Database, now
from app.decoding import FilmDecoder
from app.errors import Forbidden, NotFound, SignInNeeded, Unauthorised
from app.generation import Generators
from app.inference import ActiveClassifier
from app.models import ApiKey, Role, Screening, User
from app.quiz import rounds_of_addresses
from app.screening import Owner, Screener
from app.security import (
    SESSION_COOKIE,
    VISITOR_COOKIE,
    VISITOR_COOKIE_AGE_S,
    hash_api_key,
    new_visitor,
    read_visitor,
    require_same_origin,
    sign_visitor,
)
from app.settings import Settings
from app.storage import Storage
from app.uploads import Intake
from app.users import signed_in_user


@dataclass(frozen=True, slots=True)
class Services:
    """What the application holds while it runs; lives in `app.state.services`."""

    settings: Settings
    database: Database
    storage: Storage
    decoder: FilmDecoder
    classifier: ActiveClassifier
    screener: Screener
    intake: Intake
    generators: Generators = field(default_factory=Generators)
    quiz_rounds: Allowance = field(default_factory=rounds_of_addresses)


# Dependencies that only look at memory are coroutines: a plain function would cost a thread switch.
async def services(request: Request) -> Services:
    """The running application's services."""
    found: Services = request.app.state.services
    return found


CurrentServices = Annotated[Services, Depends(services)]


def session(current: CurrentServices) -> Iterator[Session]:
    """A session for reading; a route that writes commits."""
    with current.database.sessions() as opened:
        yield opened


# Closed when the route returns, not when a slow reader has taken the last byte.
CurrentSession = Annotated[Session, Depends(session, scope="function")]


def current_user(request: Request, current: CurrentServices) -> User | None:
    """Who is signed in in this browser; pages find them in `request.state.user`."""
    token = request.cookies.get(SESSION_COOKIE)
    user = None
    if token:
        # A session of its own, closed at once: see `clinic`.
        with current.database.sessions() as opened:
            user = signed_in_user(opened, token)
    request.state.user = user
    return user


# Asked for by every family of pages, so that the frame knows who is signed in.
CurrentUser = Annotated[User | None, Depends(current_user)]


def signed_in(user: CurrentUser) -> User:
    """The user who is signed in, for pages that are for users alone."""
    if user is None:
        raise SignInNeeded("this page is for people who are signed in")
    return user


SignedIn = Annotated[User, Depends(signed_in)]


def admin(user: SignedIn) -> User:
    """The admin who is signed in, for looking."""
    if user.role is not Role.ADMIN:
        raise Forbidden("this page is for admins: ask one for what you need")
    return user


Admin = Annotated[User, Depends(admin)]


def acting_user(request: Request, user: SignedIn) -> User:
    """The user who sends a form from our own pages."""
    require_same_origin(request.headers)
    return user


ActingUser = Annotated[User, Depends(acting_user)]


def acting_admin(request: Request, user: Admin) -> User:
    """The admin who sends a form from our own pages."""
    require_same_origin(request.headers)
    return user


ActingAdmin = Annotated[User, Depends(acting_admin)]


async def visitor(request: Request, current: CurrentServices, user: CurrentUser) -> Owner:
    """Whose screenings a browser sees: a signed-in user's clinic's, or those of its own cookie."""
    if user is not None and user.clinic_id is not None:
        return Owner(clinic_id=user.clinic_id)
    found = read_visitor(request.cookies.get(VISITOR_COOKIE), current.settings.signing_key)
    return Owner(visitor_id=found)


Visitor = Annotated[Owner, Depends(visitor)]


async def writing_visitor(request: Request, known: Visitor) -> Owner:
    """The visitor who sends a form from our own pages; a new one where there was none."""
    require_same_origin(request.headers)
    return known if known.visitor_id or known.clinic_id else Owner(visitor_id=new_visitor())


WritingVisitor = Annotated[Owner, Depends(writing_visitor)]


def remember(response: Response, owner: Owner, settings: Settings) -> None:
    """Set the visitor's cookie, which script cannot read and other sites cannot send.

    A clinic's films need none: who is signed in sees them.
    """
    if owner.visitor_id is None:
        return
    response.set_cookie(
        VISITOR_COOKIE,
        sign_visitor(owner.visitor_id, settings.signing_key),
        max_age=VISITOR_COOKIE_AGE_S,
        httponly=True,
        samesite="lax",
        secure=settings.secure_cookies,
    )


_bearer = HTTPBearer(auto_error=False, description="A clinic's key, made with `xray key create`.")


def clinic(
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    current: CurrentServices,
) -> Owner:
    """The clinic whose key was sent as `Authorization: Bearer`."""
    if given is None:
        raise Unauthorised("send a clinic's key as: Authorization: Bearer KEY")
    live = select(ApiKey).where(
        ApiKey.key_hash == hash_api_key(given.credentials), ApiKey.revoked_at.is_(None)
    )
    # A session of its own, closed before the film is read: a request that holds one connection
    # while it waits for another could starve the pool.
    with current.database.sessions() as opened:
        key = opened.scalar(live)
    if key is None:
        raise Unauthorised("the key is unknown or was revoked: make one with xray key create")
    return Owner(clinic_id=key.clinic_id)


CurrentClinic = Annotated[Owner, Depends(clinic)]


async def visitor_films(
    request: Request, _owner: WritingVisitor, current: CurrentServices
) -> AsyncIterator[list[UploadFile]]:
    """The films of a form sent from our own pages."""
    films = await current.intake.read_films(
        request,
        most=current.settings.max_films_per_form,
        max_bytes=current.settings.max_upload_bytes,
    )
    try:
        yield films
    finally:
        for film in films:
            await film.close()


async def clinic_film(
    request: Request, _owner: CurrentClinic, current: CurrentServices
) -> AsyncIterator[UploadFile]:
    """The one film of an API call; the key is checked before the film is read."""
    (film,) = await current.intake.read_films(
        request, most=1, max_bytes=current.settings.max_upload_bytes
    )
    try:
        yield film
    finally:
        await film.close()


VisitorFilms = Annotated[list[UploadFile], Depends(visitor_films)]
ClinicFilm = Annotated[UploadFile, Depends(clinic_film)]


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
        raise NotFound("there is no such screening here, or it is not yours to see")
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
    if screening is None or not share or not _opens(screening, share):
        raise NotFound("there is no such screening here, or it is not yours to see")
    return VisibleScreening(screening, can_manage=False, share_token=share)


def _opens(screening: Screening, token: str) -> bool:
    if screening.share_token is None or screening.shared_until is None:
        return False
    alive = screening.shared_until > now()
    return alive and hmac.compare_digest(screening.share_token.encode(), token.encode())


OwnedScreeningToChange = Annotated[Screening, Depends(owned_screening_to_change)]
ClinicScreening = Annotated[Screening, Depends(clinic_screening)]
Visible = Annotated[VisibleScreening, Depends(visible_screening)]
