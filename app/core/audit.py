"""Reading the audit log: newest first, page by page."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    String,
    Uuid,
    and_,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.database import Base, UtcDateTime, now
from app.core.pagination import Cursor

PAGE = 50


class AuditEvent(Base):
    """Something that was done, kept when what it was done to is gone."""

    __tablename__ = "audit_event"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)
    actor: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(100), index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


def one_page(
    session: Session, about: str, before: str | None
) -> tuple[list[AuditEvent], str | None]:
    """One page of events and the cursor of the next; None where it is the last.

    Args:
        session: the database.
        about: an actor, an action or a subject, whole; empty for all events.
        before: the cursor of a page.

    Raises:
        NotFound: not a cursor of ours.
    """
    query = select(AuditEvent).order_by(AuditEvent.at.desc(), AuditEvent.id.desc())
    if about:
        columns = (AuditEvent.actor, AuditEvent.action, AuditEvent.subject)
        query = query.where(or_(*(column == about for column in columns)))
    if before:
        last = Cursor.decode(before)
        older = and_(AuditEvent.at == last.created_at, AuditEvent.id < last.id)
        query = query.where(or_(AuditEvent.at < last.created_at, older))
    events = list(session.scalars(query.limit(PAGE + 1)))
    if len(events) <= PAGE:
        return events, None
    last_shown = events[PAGE - 1]
    return events[:PAGE], Cursor(last_shown.at, last_shown.id).encode()
