"""People who sign in: their passwords, and the browsers they are signed in with.

A session lives in the database, so that signing out ends it everywhere and at once. Its cookie
holds a random token of which only the hash is stored.
"""

import hashlib
import secrets
import uuid
from datetime import timedelta

from pwdlib import PasswordHash
from sqlalchemy import ColumnElement, and_, delete, func, not_, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.tables import Role, User, UserSession
from app.core.audit import AuditEvent
from app.core.database import now
from app.core.errors import Conflict, InvalidForm, NotFound
from ml.texts import msg

# How long a session lasts, and how long without a request, until a request applies the settings.
SESSION_AGE = timedelta(hours=12)
IDLE_TIME = timedelta(hours=1)
# A session that was used this recently is not written again.
_USED_JUST_NOW = timedelta(minutes=1)
LEAST_PASSWORD = 12
MOST_PASSWORD = 200
MOST_NAME = 64
FIRST_ADMIN = "admin"
# Without characters that look alike.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_hasher = PasswordHash.recommended()
# What a password is compared with where there is no such user: both take as long.
_NOBODY = _hasher.hash(secrets.token_urlsafe(16))


def create_user(
    session: Session,
    name: str,
    password: str,
    role: Role,
    *,
    clinic_id: uuid.UUID | None = None,
    by: str,
) -> User:
    """Make a user.

    Args:
        session: the database.
        name: what they type to sign in; capitals make no difference.
        password: 12 to 200 characters.
        role: what they may do.
        clinic_id: whose screenings they see; a clinician needs one.
        by: who makes them, for the audit log.

    Raises:
        InvalidForm: the name is taken or empty, the password too short or too long, or a clinician
            has no clinic.
    """
    name = name.strip().lower()
    faults = _password_faults(password)
    if not name or len(name) > MOST_NAME:
        faults["name"] = msg("Enter a name of 1 to %(most_name)s characters.", most_name=MOST_NAME)
    if role is Role.CLINICIAN and clinic_id is None:
        faults["clinic"] = msg("Enter a clinic. Every clinician belongs to one.")
    if faults:
        raise InvalidForm(faults)
    user = User(
        id=uuid.uuid4(),
        name=name,
        password_hash=_hasher.hash(password),
        role=role,
        clinic_id=clinic_id,
    )
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError as problem:
        raise InvalidForm(
            {"name": msg("The name %(name)s is taken. Enter another.", name=repr(name))}
        ) from problem
    session.add(AuditEvent(actor=by, action="user.created", subject=user.name))
    return user


def _password_faults(password: str) -> dict[str, str]:
    if LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        return {}
    return {
        "password": msg(
            "Enter a password of %(least_password)s to %(most_password)s characters.",
            least_password=LEAST_PASSWORD,
            most_password=MOST_PASSWORD,
        )
    }


def create_first_admin(session: Session) -> str | None:
    """Make the user `admin` where there is no user yet.

    Returns:
        The password, to be shown once; None where there are users.
    """
    if session.scalar(select(User.id).limit(1)) is not None:
        return None
    password = new_password()
    create_user(session, FIRST_ADMIN, password, Role.ADMIN, by="first start")
    return password


def check_password(session: Session, name: str, password: str) -> User | None:
    """The user of that name and password who may sign in; None where there is none.

    It takes as long whether or not there is such a user.
    """
    user = session.scalar(select(User).where(User.name == name.strip().lower()))
    right = _hasher.verify(password[:MOST_PASSWORD], user.password_hash if user else _NOBODY)
    return user if user and right and user.disabled_at is None else None


def set_password(session: Session, user: User, password: str, *, by: str) -> None:
    """Change a password and sign the user out everywhere.

    Raises:
        InvalidForm: the password is too short or too long.
    """
    if faults := _password_faults(password):
        raise InvalidForm(faults)
    user.password_hash = _hasher.hash(password)
    sign_out_everywhere(session, user, by=by)
    session.add(AuditEvent(actor=by, action="user.password-changed", subject=user.name))


def open_session(session: Session, user: User) -> str:
    """Sign a user in; the token for the browser's cookie, which is not stored."""
    session.execute(delete(UserSession).where(_is_over()))
    token = secrets.token_urlsafe(32)
    session.add(
        UserSession(
            token_hash=_token_hash(token),
            user_id=user.id,
            expires_at=now() + SESSION_AGE,
            idle_until=now() + IDLE_TIME,
        )
    )
    return token


def _is_over() -> ColumnElement[bool]:
    # Of sessions of before the upgrade `idle_until` is NULL, and so would be the comparison.
    idle = and_(UserSession.idle_until.is_not(None), UserSession.idle_until < now())
    return or_(UserSession.expires_at < now(), idle)


def keep_session(session: Session, token: str, *, age: timedelta, idle: timedelta) -> bool:
    """Count a request as use of a session; whether that changed anything.

    Args:
        session: the database; commit where something was changed.
        token: of the session.
        age: after which it ends, however much it is used.
        idle: after which it ends without a request.
    """
    known = session.get(UserSession, _token_hash(token))
    if known is None:
        return False
    expires_at, idle_until = known.created_at + age, now() + idle
    moved = abs(idle_until - known.idle_until) if known.idle_until else idle
    if moved < _USED_JUST_NOW and known.expires_at == expires_at:
        return False
    known.expires_at, known.idle_until = expires_at, idle_until
    return True


def signed_in_user(session: Session, token: str | None) -> User | None:
    """The user of a session's token; None where it is unknown or over, or the user is disabled."""
    if not token:
        return None
    found = session.get(UserSession, _token_hash(token))
    if found is None or found.user.disabled_at is not None:
        return None
    is_over = found.expires_at < now() or (found.idle_until and found.idle_until < now())
    return None if is_over else found.user


def close_session(session: Session, token: str) -> None:
    """Sign one browser out."""
    session.execute(delete(UserSession).where(UserSession.token_hash == _token_hash(token)))


def sign_out_everywhere(session: Session, user: User, *, by: str) -> None:
    """Sign all browsers of a user out."""
    session.execute(delete(UserSession).where(UserSession.user_id == user.id))
    session.add(AuditEvent(actor=by, action="user.signed-out-everywhere", subject=user.name))


def list_users(session: Session) -> list[User]:
    """All users by name."""
    return list(session.scalars(select(User).order_by(User.name)))


def new_password() -> str:
    """A password that nobody has to think of: 99 bits, easy to copy by hand."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))
    return "-".join(groups)


def disable_user(session: Session, user: User, *, by: str) -> None:
    """Sign a user out everywhere and let them sign in no more.

    Raises:
        Conflict: it is the last admin who could sign in.
    """
    enabled = (User.role == Role.ADMIN, User.disabled_at.is_(None))
    # Changes nothing, and locks: of two admins who disable each other the second one waits.
    session.execute(update(User).where(*enabled).values(disabled_at=User.disabled_at))
    admins = session.scalars(select(User.id).where(*enabled)).all()
    if user.role is Role.ADMIN and set(admins) <= {user.id}:
        raise Conflict(msg("This is the last admin. Create another one first."))
    user.disabled_at = user.disabled_at or now()
    sign_out_everywhere(session, user, by=by)
    session.add(AuditEvent(actor=by, action="user.disabled", subject=user.name))


def enable_user(session: Session, user: User, *, by: str) -> None:
    """Let a user sign in again."""
    user.disabled_at = None
    session.add(AuditEvent(actor=by, action="user.enabled", subject=user.name))


def find_user_named(session: Session, name: str) -> User:
    """Fetch a user by the name they sign in with.

    Raises:
        NotFound: there is no such user.
    """
    user = session.scalar(select(User).where(User.name == name.strip().lower()))
    if user is None:
        raise NotFound(f"There is no user {name!r}. See xray admin list.")
    return user


def count_sessions(session: Session, user: User) -> int:
    """In how many browsers a user is signed in."""
    live = select(func.count()).where(UserSession.user_id == user.id, not_(_is_over()))
    return session.scalar(live) or 0


def find_user(session: Session, id: uuid.UUID) -> User:
    """Fetch a user.

    Raises:
        NotFound: there is no such user.
    """
    user = session.get(User, id)
    if user is None:
        raise NotFound(msg("This user does not exist."))
    return user


def _token_hash(token: str) -> str:
    # A token is random and long, so a plain fast hash cannot be guessed.
    return hashlib.sha256(token.encode()).hexdigest()
