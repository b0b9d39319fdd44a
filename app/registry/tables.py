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
from ml.classifier.card import ModelCard
from ml.evaluation.comparison_report import ComparisonReport
from ml.gan.generator_card import ReleasedGeneratorCard


class ModelKind(StrEnum):
    """What a model does."""

    CLASSIFIER = "classifier"
    GENERATOR = "generator"


class ModelVersion(Base):
    """A classifier or a generator, with its card as it was registered.

    A classifier that served predictions here from outside the registry has no folder.
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
    # SHA-256 of the generators of its synthetic training images.
    parents: Mapped[list[str]] = mapped_column(JSON, default=list)
    archived_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def classifier_card(self) -> ModelCard:
        """The card of a classifier, typed."""
        return ModelCard.from_values(self.card)

    @property
    def generator_card(self) -> ReleasedGeneratorCard:
        """The card of a generator, typed."""
        return ReleasedGeneratorCard.from_values(self.card)

    @property
    def labels(self) -> list[str]:
        """The classes of a classifier, in the order of its outputs."""
        return list(self.card["labels"])

    @property
    def code_version(self) -> str:
        """The version of this software that made the model."""
        return str(self.card["code_version"])


class Comparison(Base):
    """Two classifiers compared on the same test images; the promotion checks go by it."""

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

    @property
    def report(self) -> ComparisonReport:
        """The whole report, typed."""
        return ComparisonReport.from_values(self.metrics)


class Activation(Base):
    """An activation of a classifier. The newest row names the active version."""

    __tablename__ = "activation"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    by: Mapped[str] = mapped_column(String(100))
    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    override: Mapped[str | None] = mapped_column(Text)  # why, where checks had failed
