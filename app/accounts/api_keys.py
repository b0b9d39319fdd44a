"""Clinics' API keys: made, listed, revoked. A key is shown once, when it is made."""

import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.clinics import clinic_named
from app.accounts.tables import ApiKey, Clinic
from app.core.audit import AuditEvent
from app.core.database import now
from app.core.errors import NotFound
from app.core.security import KEY_PREFIX, hash_api_key, new_api_key

FIRST_CLINIC = "First clinic"
COMMAND_LINE = "command-line"


def create_key(session: Session, clinic_name: str, key_name: str, *, by: str = COMMAND_LINE) -> str:
    """Make a key for a clinic, which is made as well where it is new.

    Args:
        session: the database.
        clinic_name: the clinic's name.
        key_name: what the key is for.
        by: who makes it, for the audit log.

    Returns:
        The key. It is stored only as a hash: this is the one time to show it.
    """
    clinic = clinic_named(session, clinic_name)
    key = new_api_key()
    row = ApiKey(
        clinic_id=clinic.id,
        name=key_name,
        prefix=key[: len(KEY_PREFIX) + 6],
        key_hash=hash_api_key(key),
    )
    session.add(row)
    session.flush()
    session.add(AuditEvent(actor=by, action="key.created", subject=str(row.id)))
    return key


def create_first_key(session: Session) -> str | None:
    """Make a key where no clinic exists yet; None where one does."""
    if session.scalar(select(Clinic.id).limit(1)) is not None:
        return None
    return create_key(session, FIRST_CLINIC, "made on first start")


def list_keys(session: Session) -> list[ApiKey]:
    """All keys, oldest first."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at)))


def revoke_key(session: Session, id: uuid.UUID, *, by: str = COMMAND_LINE) -> None:
    """Make a key useless from now on.

    Raises:
        NotFound: there is no such key.
    """
    row = session.get(ApiKey, id)
    if row is None:
        raise NotFound(f"There is no key {id}. See xray key list.")
    row.revoked_at = row.revoked_at or now()
    session.add(AuditEvent(actor=by, action="key.revoked", subject=str(row.id)))
