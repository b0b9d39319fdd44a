"""The table of data set versions."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    ForeignKey,
    String,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, UtcDateTime, enum_values, now


class DataKind(StrEnum):
    """Whose images a data set has."""

    IMAGES = "images"  # of people, or of the demonstration
    SYNTHETIC = "synthetic"  # of a generator: they train, and measure nothing


class DataVersion(Base):
    """A data set as it will always be: its name is the hash of its content."""

    __tablename__ = "data_version"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[DataKind] = mapped_column(enum_values(DataKind))
    name: Mapped[str] = mapped_column(String(200), index=True)
    folder: Mapped[str] = mapped_column(String(200))  # in the home folder
    images: Mapped[int]
    summary: Mapped[dict[str, Any]] = mapped_column(JSON)  # of `xray data freeze`
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    created_by: Mapped[str] = mapped_column(String(100))
    # Of the run that made it; runs refer to data versions, and two tables cannot to each other.
    run_id: Mapped[uuid.UUID | None]
    parent_sha256: Mapped[str | None] = mapped_column(ForeignKey("data_version.sha256"))
    # Whether "Real or synthetic?" may show its images, as far as their licence allows it.
    quiz_allowed: Mapped[bool] = mapped_column(default=False)
