"""The audit log: its table and its pages."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    String,
    Uuid,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.database import Base, UtcDateTime, now
from app.core.pagination import Page, paginate

PAGE_SIZE = 50


class AuditEvent(Base):
    """One action: who did what to which object. Entries outlive their object."""

    __tablename__ = "audit_event"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)
    actor: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(100), index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


def audit_page(session: Session, about: str, cursor: str | None) -> Page[AuditEvent]:
    """One page of the audit log, newest first.

    Args:
        session: the database.
        about: a whole actor, action or subject; empty for all events.
        cursor: of the page before.

    Raises:
        NotFound: the cursor is not valid.
    """
    query = select(AuditEvent)
    if about:
        columns = (AuditEvent.actor, AuditEvent.action, AuditEvent.subject)
        query = query.where(or_(*(column == about for column in columns)))
    return paginate(session, query, (AuditEvent.at, AuditEvent.id), cursor, PAGE_SIZE)
