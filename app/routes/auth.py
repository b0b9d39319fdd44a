"""Signing in and out, and a user's own account."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.deps import CurrentServices, CurrentSession
from app.models import AuditEvent
from app.pages import page
from app.security import SESSION_COOKIE, require_same_origin
from app.users import SESSION_AGE, check_password, open_session

router = APIRouter(include_in_schema=False)


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> HTMLResponse:
    """The form to sign in with."""
    return page(request, "sign_in.html", next=next, fault=None, name="")


@router.post("/sign-in")
def sign_in(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=1000)],
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Check the password and open a session."""
    require_same_origin(request.headers)
    user = check_password(opened, name, password)
    if user is None:
        fault = "No user has this name and password."
        return page(
            request, "sign_in.html", HTTPStatus.UNAUTHORIZED, next=next, fault=fault, name=name
        )
    token = open_session(opened, user)
    opened.add(AuditEvent(actor=f"user:{user.name}", action="user.signed-in", subject=user.name))
    opened.commit()
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


def _own_address(wanted: str) -> str:
    """The address to go on to, if it is one of ours."""
    is_own = wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    return wanted if is_own else "/"
