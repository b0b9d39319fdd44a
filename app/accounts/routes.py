"""Signing in and out, and a user's own account."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.accounts.dependencies import ActingUser, SignedIn
from app.accounts.sign_in import TooManyTries, verified_user
from app.accounts.sign_in import sign_in as open_session
from app.accounts.tables import User
from app.accounts.users import (
    SESSION_AGE,
    close_session,
    count_sessions,
    set_password,
    sign_out_everywhere,
)
from app.core.audit import AuditEvent
from app.core.errors import BadForm
from app.core.rate_limit import address_of, hashed_caller
from app.core.security import SESSION_COOKIE, require_same_origin
from app.core.templating import page
from app.services import CurrentServices, CurrentSession, Services

router = APIRouter(include_in_schema=False)
Password = Annotated[str, Form(max_length=1000)]


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> HTMLResponse:
    """The form to sign in with."""
    return page(request, "accounts/sign_in.html", next=next, fault=None, name="")


@router.post("/sign-in")
def sign_in(
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
        found = open_session(
            opened, name, password, hashed_address(request, current), current.sign_in_limits
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
    opened.commit()
    if found is None:
        fault = "No user has this name and password."
        return page(
            request,
            "accounts/sign_in.html",
            HTTPStatus.UNAUTHORIZED,
            next=next,
            fault=fault,
            name=name,
        )
    _user, token = found
    response = RedirectResponse(_own_address(next), HTTPStatus.SEE_OTHER)
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=int(SESSION_AGE.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=current.settings.secure_cookies,
    )
    return response


def hashed_address(request: Request, current: Services) -> str:
    """The caller's address as it is counted and logged: a keyed hash."""
    return hashed_caller(address_of(request), current.settings.signing_key.encode())


def _own_address(wanted: str) -> str:
    """The address to continue to, if it is one of ours; browsers take a backslash for a slash."""
    is_own = wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    return wanted if is_own and wanted.isprintable() else "/"


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
def change_password(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingUser,
    old: Password,
    new: Password,
) -> Response:
    """Take a new password; every browser of the user has to sign in again."""
    known = verified_user(
        opened, user.name, old, hashed_address(request, current), current.sign_in_limits
    )
    if known is None:
        opened.commit()
        faults = {"old": "This is not your current password."}
        return _account_page(request, opened, user, faults, HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        set_password(opened, known, new, by=user.actor)
    except BadForm as refused:
        return _account_page(request, opened, user, refused.faults, refused.status)
    opened.commit()
    return _signed_out("/sign-in?next=/account")


@router.post("/sign-out")
def sign_out(request: Request, opened: CurrentSession, user: ActingUser) -> RedirectResponse:
    """Sign this browser out."""
    close_session(opened, request.cookies[SESSION_COOKIE])
    opened.add(AuditEvent(actor=user.actor, action="user.signed-out", subject=user.name))
    opened.commit()
    return _signed_out("/")


@router.post("/sign-out-everywhere")
def sign_all_out(opened: CurrentSession, user: ActingUser) -> RedirectResponse:
    """Sign all browsers of this user out."""
    sign_out_everywhere(opened, user, by=user.actor)
    opened.commit()
    return _signed_out("/")


def _signed_out(address: str) -> RedirectResponse:
    response = RedirectResponse(address, HTTPStatus.SEE_OTHER)
    response.delete_cookie(SESSION_COOKIE)
    return response
