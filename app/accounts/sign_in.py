"""Signing in, with a limit on wrong passwords by address and by name, of all servers together.

Wrong passwords are counted in Redis where one is configured. Elsewhere the database counts them, as
they are audit events.
"""

import hashlib
import threading
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.accounts.tables import User
from app.accounts.users import check_password, open_session
from app.core.audit import AuditEvent
from app.core.database import now
from app.core.errors import AppError, Busy
from app.core.rate_limit import RateLimit, RateLimits

FAILED = "user.sign-in-failed"
WINDOW = timedelta(minutes=15)
MOST_BY_ADDRESS = 20
# Higher, so that a stranger cannot easily lock out a user by typing their name.
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
            f"Too many wrong passwords. Try again in {minutes} minutes.",
            headers={"Retry-After": str(minutes * 60)},
        )


@dataclass(frozen=True, slots=True)
class SignInLimits:
    """Counts of wrong passwords that all servers share."""

    by_address: RateLimit
    by_name: RateLimit

    @classmethod
    def of(cls, limits: RateLimits) -> "SignInLimits | None":
        """The limits in a shared storage; None where each server counts by itself."""
        if not limits.are_shared:
            return None
        window_s = int(WINDOW.total_seconds())
        return cls(
            limits.limit("sign-in-address", MOST_BY_ADDRESS, window_s),
            limits.limit("sign-in-name", MOST_BY_NAME, window_s),
        )

    def count(self, address: str, subject: str) -> None:
        """Count a wrong password."""
        self.by_address.take(address)
        self.by_name.take(subject)

    def allow(self, address: str, subject: str) -> bool:
        """Whether another password may be tried."""
        return self.by_address.allows(address) and self.by_name.allows(subject)


def sign_in(
    session: Session,
    name: str,
    password: str,
    address: str,
    limits: SignInLimits | None = None,
) -> tuple[User, str] | None:
    """Check a password and open a session; commit afterwards in either case.

    Args:
        session: the database.
        name: as typed.
        password: as typed.
        address: of the caller, hashed (`app.core.rate_limit`).
        limits: shared counts of wrong passwords; None counts audit events.

    Returns:
        The user and the token for the cookie; None where no user has this name and password.

    Raises:
        TooManyTries: too many wrong passwords; this one was not checked.
        Busy: too many passwords are being checked.
    """
    user = verified_user(session, name, password, address, limits)
    if user is None:
        return None
    token = open_session(session, user)
    session.add(AuditEvent(actor=user.actor, action="user.signed-in", subject=user.name))
    return user, token


def verified_user(
    session: Session,
    name: str,
    password: str,
    address: str,
    limits: SignInLimits | None = None,
) -> User | None:
    """The user of a name and password, counting wrong ones; commit afterwards.

    Arguments and errors are those of `sign_in`.
    """
    # PostgreSQL accepts no NUL in a text.
    name = name.replace("\0", "").strip().lower()
    subject = _audit_subject(session, name)
    if not (limits.allow(address, subject) if limits else _allowed(session, address, subject)):
        raise TooManyTries
    if not _checking.acquire(timeout=5):
        raise Busy("Too many people are signing in. Try again in a moment.")
    try:
        user = check_password(session, name, password)
    finally:
        _checking.release()
    if user is None:
        session.add(AuditEvent(actor=_actor(address), action=FAILED, subject=subject))
        if limits:
            limits.count(address, subject)
    return user


def _actor(address: str) -> str:
    return f"address:{address}"


def _audit_subject(session: Session, name: str) -> str:
    """The name for the audit log; a hash of an unknown one, which may be a mistyped password."""
    known = session.scalar(select(User.name).where(User.name == name))
    return known or f"no user, {hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _allowed(session: Session, address: str, subject: str) -> bool:
    return (
        _failures(session, AuditEvent.actor == _actor(address)) < MOST_BY_ADDRESS
        and _failures(session, AuditEvent.subject == subject) < MOST_BY_NAME
    )


def _failures(session: Session, which: ColumnElement[bool]) -> int:
    recent = AuditEvent.at > now() - WINDOW
    query = select(func.count()).where(recent, AuditEvent.action == FAILED, which)
    return session.scalar(query) or 0
