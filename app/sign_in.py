"""Signing in: a bounded number of wrong passwords, by address and by name, on all servers together.

Wrong passwords are audit events, so they are counted in the database: by every process and after a
restart too.
"""

import threading
from datetime import timedelta
from http import HTTPStatus

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.db import now
from app.errors import AppError, Busy
from app.models import AuditEvent, User
from app.users import check_password, open_session

FAILED = "user.sign-in-failed"
WINDOW = timedelta(minutes=15)
MOST_BY_ADDRESS = 20
# Higher, so that nobody is easily kept out by a stranger who types their name.
MOST_BY_NAME = 100
# A password takes some 50 ms and 64 MB to check.
_checking = threading.BoundedSemaphore(4)


class TooManyTries(AppError):
    """Too many wrong passwords from one address, or for one name."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    title = "Too many wrong passwords"
    default_code = "too-many-tries"

    def __init__(self) -> None:
        minutes = int(WINDOW.total_seconds() // 60)
        super().__init__(
            f"there were too many wrong passwords: try again in {minutes} minutes",
            headers={"Retry-After": str(minutes * 60)},
        )


def sign_in(session: Session, name: str, password: str, address: str) -> tuple[User, str] | None:
    """Check a password and open a session; commit afterwards, whatever comes of it.

    Args:
        session: the database.
        name: as typed.
        password: as typed.
        address: where the request comes from.

    Returns:
        The user and the token for the cookie; None where no user has this name and password.

    Raises:
        TooManyTries: there were too many wrong passwords lately; this one was not looked at.
        Busy: too many passwords are being checked at this moment.
    """
    name, actor = name.strip().lower()[:100], f"address:{address}"
    if (
        _failures(session, AuditEvent.actor == actor) >= MOST_BY_ADDRESS
        or _failures(session, AuditEvent.subject == name) >= MOST_BY_NAME
    ):
        raise TooManyTries
    if not _checking.acquire(timeout=5):
        raise Busy("too many people are signing in: try again in a moment")
    try:
        user = check_password(session, name, password)
    finally:
        _checking.release()
    if user is None:
        session.add(AuditEvent(actor=actor, action=FAILED, subject=name))
        return None
    token = open_session(session, user)
    session.add(AuditEvent(actor=user.actor, action="user.signed-in", subject=user.name))
    return user, token


def _failures(session: Session, which: ColumnElement[bool]) -> int:
    recent = AuditEvent.at > now() - WINDOW
    query = select(func.count()).where(recent, AuditEvent.action == FAILED, which)
    return session.scalar(query) or 0
