"""Tables of screenings and reviews."""

import uuid
from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Text,
    Uuid,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.accounts.tables import Clinic, User
from app.core.database import Base, UtcDateTime, now
from app.validation.tables import ClinicThresholds
from ml.json_model import JsonObject


class Screening(Base):
    """One image and its prediction. Belongs to one visitor or to one clinic."""

    __tablename__ = "screening"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    visitor_id: Mapped[str | None] = mapped_column(String(64))
    clinic_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("clinic.id"))

    image_sha256: Mapped[str] = mapped_column(String(64))  # of the bytes as uploaded
    image_type: Mapped[str] = mapped_column(String(50))  # media type of the stored image
    image_format: Mapped[str] = mapped_column(String(20))  # format as uploaded
    image_width: Mapped[int]
    image_height: Mapped[int]
    image_bits: Mapped[int]
    image_metadata: Mapped[dict[str, str]] = mapped_column(JSON)  # by allow-list
    # Of image and thumbnail; 0 for those of before it was counted.
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # What has to be said of the image, as `ml.imaging.image_warnings` stores it.
    warnings: Mapped[list[JsonObject]] = mapped_column(JSON, default=list)

    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    model_version: Mapped[str] = mapped_column(String(100))
    # Made by a classifier that may serve in trial mode only.
    is_trial: Mapped[bool] = mapped_column(default=False)
    # The clinic's thresholds that decided; None: those of the classifier.
    clinic_thresholds_id: Mapped[int | None] = mapped_column(ForeignKey("clinic_thresholds.id"))
    # Of the standardised pixels that the classifier was given, for a replay.
    input_sha256: Mapped[str | None] = mapped_column(String(64))
    label: Mapped[str] = mapped_column(String(50))
    decision: Mapped[str] = mapped_column(String(50))
    reason: Mapped[str | None] = mapped_column(String(50))
    probabilities: Mapped[dict[str, float]] = mapped_column(JSON)
    confidence: Mapped[float] = mapped_column(default=0.0, server_default="0")  # of the label
    ood_score: Mapped[float]
    activation_map: Mapped[list[list[list[float]]]] = mapped_column(JSON)
    # As `ml.imaging.heatmap_check.LungShares`; None: of before maps were checked.
    heatmap_shares: Mapped[dict[str, float | None] | None] = mapped_column(JSON(none_as_null=True))
    timings: Mapped[dict[str, float]] = mapped_column(JSON)  # milliseconds

    reference: Mapped[str | None] = mapped_column(String(100))  # the sender's own
    # Names the request, so that one that is repeated makes no second screening.
    idempotency_key: Mapped[str | None] = mapped_column(String(100))

    share_token: Mapped[str | None] = mapped_column(String(64))
    shared_until: Mapped[datetime | None] = mapped_column(UtcDateTime)

    clinic_thresholds: Mapped[ClinicThresholds | None] = relationship(lazy="joined")

    __table_args__ = (
        CheckConstraint("(visitor_id IS NULL) <> (clinic_id IS NULL)", name="one_owner"),
        # The history pages: newest first within one owner.
        Index(None, "visitor_id", "created_at", "id"),
        Index(None, "clinic_id", "created_at", "id"),
        # The same by probability.
        Index(None, "visitor_id", "confidence", "id"),
        Index(None, "clinic_id", "confidence", "id"),
        Index(None, "clinic_id", "idempotency_key", unique=True),
    )


class Review(Base):
    """The correct class of an image, from a user or a clinic; the newest of a screening counts.

    By a user on the pages, or by a clinic through the API.
    """

    __tablename__ = "review"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    screening_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("screening.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))
    clinic_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("clinic.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    # A class, or one of `NO_CLASS`.
    label: Mapped[str] = mapped_column(String(50))
    # What the image shows, where that is none of the classes.
    finding: Mapped[str] = mapped_column(Text, default="")
    why: Mapped[str] = mapped_column(Text, default="")
    # Keyed hash of the clinic's code of the patient; the code itself is not stored.
    patient_key: Mapped[str | None] = mapped_column(String(64))

    user: Mapped[User | None] = relationship(lazy="joined")
    clinic: Mapped[Clinic | None] = relationship(lazy="joined")

    __table_args__ = (
        CheckConstraint("(user_id IS NULL) <> (clinic_id IS NULL)", name="one_reviewer"),
    )

    @property
    def by(self) -> str:
        """The reviewer: a user's name, or the clinic's."""
        named = self.user or self.clinic
        return named.name if named else ""


class Installation(Base):
    """The one row that says which storage belongs to this database."""

    __tablename__ = "installation"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # always 1
    # The same as in the storage, under `app.screenings.installation.STORAGE_ID`.
    id: Mapped[uuid.UUID] = mapped_column(Uuid)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
