"""Typed dependencies: the signed-in user, the admin, the clinic of an API key."""

from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import select

from app.accounts.owner import Owner
from app.accounts.tables import ApiKey, Role, User
from app.accounts.users import keep_session, signed_in_user
from app.core.errors import Forbidden, SignInNeeded, Unauthorised
from app.core.security import SESSION_COOKIE, cookie_name, hash_api_key, require_same_origin
from app.services import CurrentServices
from ml.texts import msg


def current_user(request: Request, current: CurrentServices) -> User | None:
    """Who is signed in in this browser; pages find them in `request.state.user`."""
    settings = current.settings
    token = request.cookies.get(cookie_name(SESSION_COOKIE, settings))
    user = None
    if token:
        # A separate session, closed at once: see `clinic`.
        with current.database.sessions() as opened:
            user = signed_in_user(opened, token)
            times = {
                "age": timedelta(hours=settings.session_hours),
                "idle": timedelta(minutes=settings.session_idle_minutes),
            }
            if user and keep_session(opened, token, **times):
                opened.commit()
    request.state.user = user
    return user


# Every page depends on it, because the header shows who is signed in.
CurrentUser = Annotated[User | None, Depends(current_user)]


def signed_in(user: CurrentUser) -> User:
    """The user who is signed in, for pages that are for users alone."""
    if user is None:
        raise SignInNeeded(msg("This page requires you to sign in."))
    return user


SignedIn = Annotated[User, Depends(signed_in)]


def admin(user: SignedIn) -> User:
    """The admin who is signed in, for looking."""
    if user.role is not Role.ADMIN:
        raise Forbidden(msg("This page is for admins. Ask one for access."))
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
_bearer = HTTPBearer(auto_error=False, description="A clinic's key, made with `xray key create`.")


def clinic(
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    current: CurrentServices,
) -> Owner:
    """The clinic whose key was sent as `Authorization: Bearer`."""
    if given is None:
        raise Unauthorised("The request has no API key. Send it as Authorization: Bearer KEY.")
    live = select(ApiKey).where(
        ApiKey.key_hash == hash_api_key(given.credentials), ApiKey.revoked_at.is_(None)
    )
    # A separate session, closed before the image is read: a request that holds one connection
    # while it waits for another could starve the pool.
    with current.database.sessions() as opened:
        key = opened.scalar(live)
    if key is None:
        raise Unauthorised("The API key is unknown or revoked. Create one with xray key create.")
    return Owner(clinic_id=key.clinic_id)


CurrentClinic = Annotated[Owner, Depends(clinic)]
