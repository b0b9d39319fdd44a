"""The table of alarms of the monitoring."""

import uuid
from datetime import datetime

from sqlalchemy import JSON, ForeignKey, String, UniqueConstraint, Uuid
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.accounts.tables import Clinic
from app.core.database import Base, UtcDateTime, now
from ml.json_model import JsonObject


class MonitoringAlarm(Base):
    """A block of a clinic's screenings that differs from the reference; one for each test."""

    __tablename__ = "monitoring_alarm"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    clinic_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("clinic.id"))
    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    test: Mapped[str] = mapped_column(String(50))
    block: Mapped[int]  # of the clinic's screenings by this classifier, from 1
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    detail: Mapped[JsonObject] = mapped_column(JSON)
    acknowledged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    acknowledged_by: Mapped[str | None] = mapped_column(String(100))

    clinic: Mapped[Clinic] = relationship(lazy="joined")

    __table_args__ = (
        UniqueConstraint("clinic_id", "model_sha256", "test", "block", name="one_each"),
    )
