"""Tables of model versions, comparisons and activations."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    ForeignKey,
    String,
    Text,
    Uuid,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, UtcDateTime, enum_values, now
from ml.gan.generator_card import ReleasedGeneratorCard


class ModelKind(StrEnum):
    """What a model does."""

    CLASSIFIER = "classifier"
    GENERATOR = "generator"


class ModelVersion(Base):
    """A classifier or a generator, with its card as it was then.

    Classifiers that answered images here and came from outside the registry have no folder.
    """

    __tablename__ = "model_version"

    # Of a classifier's graph, of a generator's weights.
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[ModelKind] = mapped_column(enum_values(ModelKind), default=ModelKind.CLASSIFIER)
    version: Mapped[str] = mapped_column(String(100), index=True)
    card: Mapped[dict[str, Any]] = mapped_column(JSON)
    registered_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    folder: Mapped[str | None] = mapped_column(String(200))  # in the home folder
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("run.id"))
    data_sha256: Mapped[str | None] = mapped_column(ForeignKey("data_version.sha256"))
    # SHA-256 of the generators whose images it learned from.
    parents: Mapped[list[str]] = mapped_column(JSON, default=list)
    archived_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def generator_card(self) -> ReleasedGeneratorCard:
        """The card of a generator, typed."""
        return ReleasedGeneratorCard.from_values(self.card)


class Comparison(Base):
    """A classifier measured beside another one on the same test images: what the promotion checks
    go by.
    """

    __tablename__ = "comparison"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("run.id"))
    candidate_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"), index=True)
    reference_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    data_sha256: Mapped[str | None] = mapped_column(ForeignKey("data_version.sha256"))
    passed: Mapped[bool]
    faults: Mapped[list[str]] = mapped_column(JSON)  # why not, as sentences
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)


class Activation(Base):
    """A classifier was activated. The newest row names the one that answers."""

    __tablename__ = "activation"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    by: Mapped[str] = mapped_column(String(100))
    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    override: Mapped[str | None] = mapped_column(Text)  # why in spite of the promotion checks
