"""The table of thresholds that clinics use instead of their classifier's."""

import uuid
from datetime import datetime

from sqlalchemy import JSON, ForeignKey, String, Text, UniqueConstraint, Uuid
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.accounts.tables import Clinic
from app.core.database import Base, UtcDateTime, now
from ml.classifier.card import Thresholds
from ml.json_model import JsonObject


class ClinicThresholds(Base):
    """One version of a clinic's thresholds for one classifier; the newest of the two counts.

    Rows are only added: going back to earlier thresholds, or to those of the classifier, is another
    version.
    """

    __tablename__ = "clinic_thresholds"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    clinic_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("clinic.id"))
    version: Mapped[int]  # counts up within the clinic, from 1
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    by: Mapped[str] = mapped_column(String(100))
    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    # Label -> least probability of a definite prediction, above 1 for never. Empty: those of the
    # classifier.
    by_label: Mapped[dict[str, float]] = mapped_column(JSON)
    why: Mapped[str] = mapped_column(Text, default="")
    # The run that measured them, and what it measured: runs may be deleted.
    run_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    evidence: Mapped[JsonObject] = mapped_column(JSON, default=dict)

    clinic: Mapped[Clinic] = relationship()

    def applied_to(self, thresholds: Thresholds) -> Thresholds:
        """The thresholds of the classifier with those of the clinic instead."""
        return thresholds.model_copy(update={"by_label": self.by_label, "left_out_sites": []})

    __table_args__ = (UniqueConstraint("clinic_id", "version"),)
