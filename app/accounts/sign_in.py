"""Signing in, with limits on wrong passwords that lock nobody out.

Wrong passwords are counted by their source: the address or, where the user has signed in before,
the browser. After some for one name from one source the next try has to wait, longer each time.
So nobody can lock out a user from elsewhere, and nobody at all a browser that the user knows.

Wrong passwords are audit events, which all servers share. Those that are being checked are counted
in memory or, where it is configured, in Redis for all servers together.
"""

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.accounts.known_browsers import browser_source, is_known_to
from app.accounts.tables import User
from app.accounts.users import check_password, open_session
from app.core.audit import AuditEvent
from app.core.database import now
from app.core.errors import AppError
from app.core.rate_limit import RateLimit, RateLimits
from ml.texts import msg, plural

FAILED = "user.sign-in-failed"
WINDOW = timedelta(minutes=15)
# From one address or known browser, whatever the name.
MOST_BY_SOURCE = 20
# For one name from one source; after these the wait is 1 s, 2 s, 4 s, ...
UNDELAYED = 5


class TooManyTries(AppError):
    """Too many wrong passwords from one source."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    title = msg("Too many wrong passwords")
    default_code = "too-many-tries"

    def __init__(self, wait_s: int) -> None:
        if wait_s < 120:
            text = plural(
                "Too many wrong passwords. Try again in %(count)s second.",
                "Too many wrong passwords. Try again in %(count)s seconds.",
                wait_s,
            )
        else:
            text = msg(
                "Too many wrong passwords. Try again in %(count)s minutes.",
                count=math.ceil(wait_s / 60),
            )
        super().__init__(
            text,
            headers={"Retry-After": str(wait_s)},
        )


@dataclass(frozen=True, slots=True)
class PasswordSource:
    """Where a password comes from.

    Attributes:
        address: of the caller, hashed (`app.core.rate_limit`).
        browser: what its cookie says (`app.accounts.known_browsers`), if it has a valid one.
    """

    address: str
    browser: str | None = None


class SignInAttempts:
    """Counts passwords that are being checked and, with what was wrong before, admits a new one.

    Args:
        shared: counts of wrong passwords, and those being checked, of all servers by source; None
            counts what is being checked in this process alone.
    """

    def __init__(self, shared: RateLimit | None = None) -> None:
        self._shared = shared
        self._checking: Counter[str] = Counter()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, limits: RateLimits) -> "SignInAttempts":
        """Counts in the application's storage of limits."""
        if not limits.are_shared:
            return cls()
        window_s = int(WINDOW.total_seconds())
        return cls(limits.limit("sign-in", MOST_BY_SOURCE, window_s))

    @contextmanager
    def admitted(self, session: Session, source: str, subject: str) -> "Iterator[PasswordCheck]":
        """Count an attempt while its password is checked.

        A wrong one has to be committed as an audit event before this ends.

        Raises:
            TooManyTries: this one may not be checked now.
        """
        with self._counted(source) as of_source, self._counted(f"{source} {subject}") as of_name:
            attempt = PasswordCheck()
            if self._shared and not self._shared.take(source):
                self._shared.give_back(source)
                raise TooManyTries(int(WINDOW.total_seconds()))
            try:
                _require_patience(session, source, subject, of_source, of_name)
                yield attempt
            finally:
                if self._shared and not attempt.was_wrong:
                    self._shared.give_back(source)

    @contextmanager
    def _counted(self, what: str) -> Iterator[int]:
        # First counted, then compared with what was wrong before: an attempt that ends in between
        # is counted once at least.
        with self._lock:
            self._checking[what] += 1
            number = self._checking[what]
        try:
            yield number
        finally:
            with self._lock:
                self._checking[what] -= 1
                if not self._checking[what]:
                    del self._checking[what]


@dataclass(slots=True)
class PasswordCheck:
    """An attempt in progress."""

    was_wrong: bool = False


def sign_in(
    session: Session, name: str, password: str, source: PasswordSource, attempts: SignInAttempts
) -> tuple[User, str] | None:
    """Check a password and open a session; commit afterwards.

    Args:
        session: the database.
        name: as typed.
        password: as typed.
        source: where it comes from.
        attempts: those in progress.

    Returns:
        The user and the token for the cookie; None where no user has this name and password, which
        is committed as an audit event.

    Raises:
        TooManyTries: too many wrong passwords; this one was not checked.
    """
    user = verified_user(session, name, password, source, attempts)
    if user is None:
        return None
    token = open_session(session, user)
    session.add(AuditEvent(actor=user.actor, action="user.signed-in", subject=user.name))
    return user, token


def verified_user(
    session: Session, name: str, password: str, source: PasswordSource, attempts: SignInAttempts
) -> User | None:
    """The user of a name and password, counting wrong ones.

    Arguments, result and errors are those of `sign_in`.
    """
    # PostgreSQL accepts no NUL in a text.
    name = name.replace("\0", "").strip().lower()
    known = session.execute(select(User.id, User.name).where(User.name == name)).first()
    # Of an unknown name a hash, for it may be a mistyped password.
    subject = known.name if known else f"no user, {hashlib.sha256(name.encode()).hexdigest()[:8]}"
    actor = f"address:{source.address}"
    if source.browser and is_known_to(source.browser, known.id if known else None):
        actor = browser_source(source.browser)
    with attempts.admitted(session, actor, subject) as attempt:
        user = check_password(session, name, password)
        if user is None:
            attempt.was_wrong = True
            session.add(AuditEvent(actor=actor, action=FAILED, subject=subject))
            session.commit()
    return user


def _require_patience(
    session: Session, source: str, subject: str, of_source: int, of_name: int
) -> None:
    """Refuse an attempt that comes too soon after wrong ones.

    Args:
        session: the database.
        source: actor of the audit events.
        subject: their subject.
        of_source: attempts in progress from this source, with this one.
        of_name: those for this name.

    Raises:
        TooManyTries: with the time to wait.
    """
    by_source = AuditEvent.actor == source
    wrong, _ = _wrong_passwords(session, by_source)
    if wrong + of_source > MOST_BY_SOURCE:
        raise TooManyTries(int(WINDOW.total_seconds()))
    wrong, newest = _wrong_passwords(session, by_source, AuditEvent.subject == subject)
    if wrong + of_name <= UNDELAYED:
        return
    delay = timedelta(seconds=2 ** max(0, wrong - UNDELAYED))
    wait = delay - (now() - newest) if newest else delay
    # After a wait there is one try, not one for each that waited.
    if of_name > 1 or wait > timedelta(0):
        raise TooManyTries(max(1, math.ceil(wait.total_seconds())))


def _wrong_passwords(session: Session, *which: ColumnElement[bool]) -> tuple[int, datetime | None]:
    """How many there were in the window, and when the newest was."""
    recent = (AuditEvent.at > now() - WINDOW, AuditEvent.action == FAILED)
    count, newest = session.execute(
        select(func.count(), func.max(AuditEvent.at)).where(*recent, *which)
    ).one()
    return count, newest
