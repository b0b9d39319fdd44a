"""The console's rooms of people: users, clinics' API keys, the audit log."""

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.api_keys import create_key, list_keys, revoke_key
from app.accounts.clinics import chosen_clinic, create_clinic, list_clinics
from app.accounts.dependencies import ActingAdmin, Admin
from app.accounts.tables import Role
from app.accounts.users import (
    create_user,
    disable_user,
    enable_user,
    find_user,
    list_users,
    new_password,
    set_password,
    sign_out_everywhere,
)
from app.core.errors import InvalidForm, NotFound
from app.core.templating import Confirmation, confirm, page
from app.services import CurrentSession
from ml.texts import msg

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
        clinic_id = chosen_clinic(opened, clinic).id if clinic else None
        made = create_user(opened, name, password, role, clinic_id=clinic_id, by=user.actor)
    except InvalidForm as refused:
        opened.rollback()
        typed = {"name": name, "role": role, "clinic": clinic}
        return _users_page(request, opened, refused.status, faults=refused.faults, typed=typed)
    opened.commit()
    return _users_page(
        request,
        opened,
        secret={"what": msg("Password of %(name)s", name=made.name), "value": password},
    )


@router.post("/users/{id}/password")
def new_password_for(
    request: Request, opened: CurrentSession, user: ActingAdmin, id: uuid.UUID
) -> HTMLResponse:
    """Give a user another password, shown once; their browsers are signed out."""
    person, password = find_user(opened, id), new_password()
    set_password(opened, person, password, by=user.actor)
    opened.commit()
    secret = {"what": msg("New password of %(name)s", name=person.name), "value": password}
    return _users_page(request, opened, secret=secret)


@router.post("/users/{id}/disable")
def disable(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Let a user sign in no more."""
    disable_user(opened, find_user(opened, id), by=user.actor)
    return _done(opened)


@router.post("/users/{id}/enable")
def enable(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Let a user sign in again."""
    enable_user(opened, find_user(opened, id), by=user.actor)
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
    try:
        chosen = chosen_clinic(opened, clinic)
    except InvalidForm as refused:
        return _users_page(
            request,
            opened,
            refused.status,
            faults={"key-clinic": refused.faults["clinic"]},
            typed={"key-name": name},
        )
    key = create_key(opened, chosen.name, name or "default", by=user.actor)
    opened.commit()
    return _users_page(
        request, opened, secret={"what": msg("API key of %(clinic)s", clinic=clinic), "value": key}
    )


@router.post("/clinics")
def add_clinic(
    request: Request, opened: CurrentSession, user: ActingAdmin, name: ShortText = ""
) -> Response:
    """Add a clinic, which users and keys can then be added to."""
    try:
        create_clinic(opened, name, by=user.actor)
    except InvalidForm as refused:
        faults = {"clinic-name": refused.faults["name"]}
        typed = {"clinic-name": name}
        return _users_page(request, opened, refused.status, faults=faults, typed=typed)
    return _done(opened)


@router.get("/keys/{id}/revoke")
def confirm_revoke(
    request: Request, opened: CurrentSession, _user: Admin, id: uuid.UUID
) -> HTMLResponse:
    """What revoking a key would do."""
    live = [key for key in list_keys(opened) if key.revoked_at is None]
    key = next((one for one in live if one.id == id), None)
    if key is None:
        raise NotFound(msg("There is no such API key, or it is revoked."))
    is_only = sum(one.clinic_id == key.clinic_id for one in live) == 1
    return confirm(
        request,
        Confirmation(
            room="users",
            title=msg(
                "Revoke the API key %(prefix)s of %(name)s?",
                prefix=key.prefix,
                name=key.clinic.name,
            ),
            text=msg("Programs that use it are refused at once. This cannot be undone."),
            more=msg("It is the only key of this clinic.") if is_only else "",
            action=f"/admin/keys/{id}/revoke",
            button=msg("Revoke key"),
            back="/admin/users",
        ),
    )


@router.get("/users/{id}/password")
def confirm_password(
    request: Request, opened: CurrentSession, _user: Admin, id: uuid.UUID
) -> HTMLResponse:
    """What resetting a password would do."""
    person = find_user(opened, id)
    return confirm(
        request,
        Confirmation(
            room="users",
            title=msg("Reset the password of %(name)s?", name=person.name),
            text=msg(
                "The present password stops working, and every browser of this user is "
                "signed out. The new password is shown once. This cannot be undone."
            ),
            action=f"/admin/users/{id}/password",
            button=msg("Reset password"),
            back="/admin/users",
        ),
    )


@router.post("/keys/{id}/revoke")
def revoke(opened: CurrentSession, user: ActingAdmin, id: uuid.UUID) -> RedirectResponse:
    """Make a key useless."""
    revoke_key(opened, id, by=user.actor)
    return _done(opened)


def _done(opened: Session) -> RedirectResponse:
    opened.commit()
    return RedirectResponse("/admin/users", HTTPStatus.SEE_OTHER)
