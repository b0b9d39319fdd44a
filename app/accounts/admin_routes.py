"""The console's rooms of people: users, clinics' API keys, the audit log."""

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.accounts.api_keys import clinic_named, create_key, list_clinics, list_keys, revoke_key
from app.accounts.dependencies import ActingAdmin, Admin
from app.accounts.tables import Role
from app.accounts.users import (
    create_user,
    disable,
    enable,
    find_user,
    list_users,
    new_password,
    set_password,
    sign_out_everywhere,
)
from app.core.errors import BadForm
from app.core.templating import page
from app.services import CurrentSession

router = APIRouter(prefix="/admin", include_in_schema=False)
ShortText = Annotated[str, Form(max_length=200)]


@router.get("/users")
def users(request: Request, opened: CurrentSession, _user: Admin) -> HTMLResponse:
    """Everybody who signs in, and the keys of all clinics."""
    return _users_page(request, opened)


def _users_page(
    request: Request,
    opened: Session,
    status: HTTPStatus = HTTPStatus.OK,
    **about: object,
) -> HTMLResponse:
    """The page, with what was just made: its secret is shown this once, as it is not stored."""
    return page(
        request,
        "accounts/users.html",
        status,
        users=list_users(opened),
        keys=list_keys(opened),
        clinics=list_clinics(opened),
        roles=list(Role),
        **{"faults": {}, "typed": {}, "secret": None} | about,
    )


@router.post("/users")
def add_user(
    request: Request,
    opened: CurrentSession,
    user: ActingAdmin,
    name: ShortText = "",
    role: Role = Role.CLINICIAN,
    clinic: ShortText = "",
) -> HTMLResponse:
    """Make a user, with a password that is shown once."""
    password, clinic = new_password(), clinic.strip()
    try:
        clinic_id = clinic_named(opened, clinic).id if clinic else None
        made = create_user(opened, name, password, role, clinic_id=clinic_id, by=user.actor)
    except BadForm as refused:
        opened.rollback()
        typed = {"name": name, "role": role, "clinic": clinic}
        return _users_page(request, opened, refused.status, faults=refused.faults, typed=typed)
    opened.commit()
    return _users_page(
        request, opened, secret={"what": f"Password of {made.name}", "value": password}
    )


@router.post("/users/{id}/password")
def new_password_for(
    request: Request, opened: CurrentSession, user: ActingAdmin, id: uuid.UUID
) -> HTMLResponse:
    """Give a user another password, shown once; their browsers are signed out."""
    person, password = find_user(opened, id), new_password()
    set_password(opened, person, password, by=user.actor)
    opened.commit()
    secret = {"what": f"New password of {person.name}", "value": password}
    return _users_page(request, opened, secret=secret)


@router.post("/users/{id}/disable")
def disable_user(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Let a user sign in no more."""
    disable(opened, find_user(opened, id), by=user.actor)
    return _done(opened)


@router.post("/users/{id}/enable")
def enable_user(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Let a user sign in again."""
    enable(opened, find_user(opened, id), by=user.actor)
    return _done(opened)


@router.post("/users/{id}/sign-out")
def sign_user_out(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Sign all browsers of a user out."""
    sign_out_everywhere(opened, find_user(opened, id), by=user.actor)
    return _done(opened)


@router.post("/keys")
def add_key(
    request: Request,
    opened: CurrentSession,
    user: ActingAdmin,
    clinic: ShortText = "",
    name: ShortText = "",
) -> HTMLResponse:
    """Make a key for a clinic, shown once."""
    clinic, name = clinic.strip(), name.strip()
    if not clinic:
        return _users_page(
            request,
            opened,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            faults={"key-clinic": "Enter the clinic that will use the key."},
            typed={"key-name": name},
        )
    key = create_key(opened, clinic, name or "default", by=user.actor)
    opened.commit()
    return _users_page(request, opened, secret={"what": f"API key of {clinic}", "value": key})


@router.post("/keys/{id}/revoke")
def revoke(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Make a key useless."""
    revoke_key(opened, id, by=user.actor)
    return _done(opened)


def _done(opened: Session) -> RedirectResponse:
    opened.commit()
    return RedirectResponse("/admin/users", HTTPStatus.SEE_OTHER)
