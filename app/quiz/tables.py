"""The table of quiz rounds."""

import uuid
from datetime import datetime
from typing import NotRequired, TypedDict

from sqlalchemy import (
    JSON,
    ForeignKey,
    Index,
    String,
    Uuid,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, UtcDateTime, now


class QuizImage(TypedDict):
    """One image of a round.

    A real one has image, source and licence; a generated one the seed, and the SHA-256 of its model
    where that is not the round's.
    """

    real: bool
    label: str
    data: NotRequired[str]
    image: NotRequired[str]
    source: NotRequired[str]
    patient: NotRequired[str]
    licence: NotRequired[str]
    seed: NotRequired[int]
    model: NotRequired[str]


class QuizRound(Base):
    """One reader's guesses which images are real."""

    __tablename__ = "quiz_round"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    visitor_id: Mapped[str] = mapped_column(String(64))
    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"), index=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Without images of people a round is practice and says nothing of a model.
    counts: Mapped[bool]
    right: Mapped[int | None]
    # Images of each half that were judged real, set when the round ends: metrics are sums of these.
    synthetic_taken_for_real: Mapped[int | None]
    real_taken_for_real: Mapped[int | None]
    images: Mapped[list[QuizImage]] = mapped_column(JSON)
    guesses: Mapped[list[bool] | None] = mapped_column(JSON)  # for each image: real?

    # The open ones, oldest first.
    __table_args__ = (Index(None, "finished_at", "started_at"),)
