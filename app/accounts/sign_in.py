"""Signing in: a bounded number of wrong passwords, by address and by name, on all servers together.

Wrong passwords are audit events, so they are counted in the database: by every process and after a
restart too.
"""

import hashlib
import threading
from datetime import timedelta
from http import HTTPStatus

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.accounts.tables import User
from app.accounts.users import check_password, open_session
from app.core.audit import AuditEvent
from app.core.database import now
from app.core.errors import AppError, Busy

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
        address: where the request comes from (`app.core.rate_limit`).

    Returns:
        The user and the token for the cookie; None where no user has this name and password.

    Raises:
        TooManyTries: there were too many wrong passwords lately; this one was not looked at.
        Busy: too many passwords are being checked at this moment.
    """
    user = verified_user(session, name, password, address)
    if user is None:
        return None
    token = open_session(session, user)
    session.add(AuditEvent(actor=user.actor, action="user.signed-in", subject=user.name))
    return user, token


def verified_user(session: Session, name: str, password: str, address: str) -> User | None:
    """The user of a name and password, counting wrong ones; commit afterwards.

    Raises:
        TooManyTries: there were too many wrong passwords lately; this one was not looked at.
        Busy: too many passwords are being checked at this moment.
    """
    # PostgreSQL takes no NUL in a text.
    name, actor = name.replace("\0", "").strip().lower(), f"address:{address}"
    subject = _counted_as(session, name)
    if (
        _failures(session, AuditEvent.actor == actor) >= MOST_BY_ADDRESS
        or _failures(session, AuditEvent.subject == subject) >= MOST_BY_NAME
    ):
        raise TooManyTries
    if not _checking.acquire(timeout=5):
        raise Busy("too many people are signing in: try again in a moment")
    try:
        user = check_password(session, name, password)
    finally:
        _checking.release()
    if user is None:
        session.add(AuditEvent(actor=actor, action=FAILED, subject=subject))
    return user


def _counted_as(session: Session, name: str) -> str:
    """The name in the audit log: people type a password there now and then, so not any text."""
    known = session.scalar(select(User.name).where(User.name == name))
    return known or f"no user, {hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _failures(session: Session, which: ColumnElement[bool]) -> int:
    recent = AuditEvent.at > now() - WINDOW
    query = select(func.count()).where(recent, AuditEvent.action == FAILED, which)
    return session.scalar(query) or 0
