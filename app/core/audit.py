"""The table of the audit log."""

import uuid
from datetime import datetime

from sqlalchemy import (
    JSON,
    String,
    Uuid,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, UtcDateTime, now
from ml.json_model import JsonObject


class AuditEvent(Base):
    """One action: who did what to which object. Entries outlive their object."""

    __tablename__ = "audit_event"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)
    actor: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(100), index=True)
    detail: Mapped[JsonObject] = mapped_column(JSON, default=dict)
