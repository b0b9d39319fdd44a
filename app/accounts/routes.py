"""Signing in and out, and a user's own account."""

import uuid
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, TypeVar

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.accounts.dependencies import ActingUser, SignedIn
from app.accounts.known_browsers import (
    KNOWN_AGE_S,
    KNOWN_COOKIE,
    new_known_browser,
    read_known_browser,
)
from app.accounts.sign_in import PasswordSource, SignInAttempts, TooManyTries, verified_user
from app.accounts.sign_in import sign_in as open_session
from app.accounts.tables import User
from app.accounts.users import (
    close_session,
    count_sessions,
    set_password,
    sign_out_everywhere,
)
from app.core.audit import AuditEvent
from app.core.errors import InvalidForm
from app.core.links import own_address
from app.core.rate_limit import address_of, hashed_caller
from app.core.security import SESSION_COOKIE, cookie_name, require_same_origin
from app.core.templating import page
from app.services import CurrentServices, CurrentSession, Services
from app.settings import Settings
from ml.texts import msg

router = APIRouter(include_in_schema=False)
Password = Annotated[str, Form(max_length=1000)]
_Result = TypeVar("_Result")


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> HTMLResponse:
    """The form to sign in with."""
    return page(request, "accounts/sign_in.html", next=next, fault=None, name="")


@router.post("/sign-in")
async def sign_in(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    name: Annotated[str, Form(max_length=200)],
    password: Password,
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Check the password and open a session."""
    require_same_origin(request.headers)
    try:
        before = request.cookies.get(_session_cookie(current))
        found = await _checked(
            request, current, partial(_open_session, opened, before, name, password)
        )
    except TooManyTries as refused:
        answer = page(
            request,
            "accounts/sign_in.html",
            refused.status,
            next=next,
            fault=refused.detail,
            name=name,
        )
        answer.headers.update(refused.headers)
        return answer
    if found is None:
        fault = msg("No user has this name and password.")
        return page(
            request,
            "accounts/sign_in.html",
            HTTPStatus.UNAUTHORIZED,
            next=next,
            fault=fault,
            name=name,
        )
    response = RedirectResponse(own_address(next), HTTPStatus.SEE_OTHER)
    _set_cookies(response, *found, current.settings)
    return response


def _set_cookies(response: Response, user_id: uuid.UUID, token: str, settings: Settings) -> None:
    """Keep the session in the browser, and longer than it that this user signed in there."""
    response.set_cookie(
        cookie_name(SESSION_COOKIE, settings),
        token,
        max_age=int(settings.session_hours * 3600),
        httponly=True,
        samesite="lax",
        secure=settings.secure_cookies,
    )
    response.set_cookie(
        cookie_name(KNOWN_COOKIE, settings),
        new_known_browser(user_id, settings.signing_key),
        max_age=KNOWN_AGE_S,
        path="/",
        httponly=True,
        samesite="lax",
        secure=settings.secure_cookies,
    )


def _open_session(
    opened: Session,
    before: str | None,
    name: str,
    password: str,
    source: PasswordSource,
    attempts: SignInAttempts,
) -> tuple[uuid.UUID, str] | None:
    found = open_session(opened, name, password, source, attempts)
    if found is not None and before:
        # The session of before, which somebody else may know.
        close_session(opened, before)
    opened.commit()
    return (found[0].id, found[1]) if found else None


async def _checked(
    request: Request, current: Services, check: Callable[[PasswordSource, SignInAttempts], _Result]
) -> _Result:
    """Run a check of a password that came with a request, when it is its turn."""
    known = request.cookies.get(cookie_name(KNOWN_COOKIE, current.settings))
    browser = read_known_browser(known, current.settings.signing_key)
    source = PasswordSource(hashed_address(request, current), browser)
    return await current.password_checks.run(
        partial(check, source, current.sign_in_attempts),
        source.address,
        is_known=browser is not None,
    )


def _session_cookie(current: Services) -> str:
    return cookie_name(SESSION_COOKIE, current.settings)


def hashed_address(request: Request, current: Services) -> str:
    """The caller's address as it is counted and logged: a keyed hash."""
    return hashed_caller(address_of(request), current.settings.signing_key.encode())


@router.get("/account")
def account(request: Request, opened: CurrentSession, user: SignedIn) -> HTMLResponse:
    """Who is signed in, with the ways to change the password and to sign out."""
    return _account_page(request, opened, user)


def _account_page(
    request: Request,
    opened: CurrentSession,
    user: User,
    faults: dict[str, str] | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> HTMLResponse:
    return page(
        request,
        "accounts/account.html",
        status,
        sessions=count_sessions(opened, user),
        faults=faults or {},
    )


@router.post("/account/password")
async def change_password(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingUser,
    old: Password,
    new: Password,
) -> Response:
    """Take a new password; every browser of the user has to sign in again."""

    def change(source: PasswordSource, attempts: SignInAttempts) -> dict[str, str]:
        known = verified_user(opened, user.name, old, source, attempts)
        if known is None:
            return {"old": msg("This is not your current password.")}
        try:
            set_password(opened, known, new, by=user.actor)
        except InvalidForm as refused:
            return refused.faults
        opened.commit()
        return {}

    if faults := await _checked(request, current, change):
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return await run_in_threadpool(_account_page, request, opened, user, faults, status)
    return _signed_out("/sign-in?next=/account", current)


@router.post("/sign-out")
def sign_out(
    request: Request, current: CurrentServices, opened: CurrentSession, user: ActingUser
) -> RedirectResponse:
    """Sign this browser out."""
    close_session(opened, request.cookies[_session_cookie(current)])
    opened.add(AuditEvent(actor=user.actor, action="user.signed-out", subject=user.name))
    opened.commit()
    return _signed_out("/", current)


@router.post("/sign-out-everywhere")
def sign_all_out(
    current: CurrentServices, opened: CurrentSession, user: ActingUser
) -> RedirectResponse:
    """Sign all browsers of this user out."""
    sign_out_everywhere(opened, user, by=user.actor)
    opened.commit()
    return _signed_out("/", current)


def _signed_out(address: str, current: Services) -> RedirectResponse:
    response = RedirectResponse(address, HTTPStatus.SEE_OTHER)
    # Browsers let only a secure cookie replace one whose name begins with `__Host-`.
    response.delete_cookie(
        _session_cookie(current), httponly=True, secure=current.settings.secure_cookies
    )
    return response
