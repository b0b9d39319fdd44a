"""The table of data set versions."""

import uuid
from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue
from sqlalchemy import (
    JSON,
    ForeignKey,
    String,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, UtcDateTime, enum_values, now
from ml.data.summary import DataSetSummary


class DataKind(StrEnum):
    """Who or what the images of a data set are of."""

    IMAGES = "images"  # people, or the demonstration set
    SYNTHETIC = "synthetic"  # made by a generator: for training, never for measuring


class DataVersion(Base):
    """A frozen data set, named by the hash of its content."""

    __tablename__ = "data_version"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[DataKind] = mapped_column(enum_values(DataKind))
    name: Mapped[str] = mapped_column(String(200), index=True)
    folder: Mapped[str] = mapped_column(String(200))  # in the home folder
    images: Mapped[int]
    summary: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    created_by: Mapped[str] = mapped_column(String(100))
    # No foreign key: runs refer to data versions, and two tables cannot refer to each other.
    run_id: Mapped[uuid.UUID | None]
    parent_sha256: Mapped[str | None] = mapped_column(ForeignKey("data_version.sha256"))
    # Whether "Real or synthetic?" may show the images whose licence allows it.
    quiz_allowed: Mapped[bool] = mapped_column(default=False)

    @property
    def contents(self) -> DataSetSummary:
        """The summary, typed."""
        return DataSetSummary.from_values(self.summary)
