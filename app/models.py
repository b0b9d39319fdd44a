"""The rows: who asked, what was answered, by which model, and what was done with it."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, CheckConstraint, Enum, ForeignKey, Index, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base, UtcDateTime, now


class Clinic(Base):
    """An organisation that calls the API; its screenings are seen by its keys alone."""

    __tablename__ = "clinic"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class ApiKey(Base):
    """A clinic's key. Only its hash is kept: the key itself is shown once."""

    __tablename__ = "api_key"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    clinic_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("clinic.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    clinic: Mapped[Clinic] = relationship(lazy="joined")


class ModelVersion(Base):
    """A classifier that has answered films here, with its card as it was then."""

    __tablename__ = "model_version"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[str] = mapped_column(String(100), index=True)
    card: Mapped[dict[str, Any]] = mapped_column(JSON)
    registered_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class Screening(Base):
    """One film and the answer to it. Belongs to one visitor or to one clinic."""

    __tablename__ = "screening"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    visitor_id: Mapped[str | None] = mapped_column(String(64))
    clinic_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("clinic.id"))

    film_sha256: Mapped[str] = mapped_column(String(64))  # of the bytes as uploaded
    film_type: Mapped[str] = mapped_column(String(50))  # media type of the stored film
    film_format: Mapped[str] = mapped_column(String(20))  # format as uploaded
    film_width: Mapped[int]
    film_height: Mapped[int]
    film_bits: Mapped[int]
    film_metadata: Mapped[dict[str, str]] = mapped_column(JSON)  # by allow-list

    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    model_version: Mapped[str] = mapped_column(String(100))
    label: Mapped[str] = mapped_column(String(50))
    decision: Mapped[str] = mapped_column(String(50))
    reason: Mapped[str | None] = mapped_column(String(50))
    probabilities: Mapped[dict[str, float]] = mapped_column(JSON)
    novelty: Mapped[float]
    activation_map: Mapped[list[list[list[float]]]] = mapped_column(JSON)
    timings: Mapped[dict[str, float]] = mapped_column(JSON)  # milliseconds

    share_token: Mapped[str | None] = mapped_column(String(64))
    shared_until: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        CheckConstraint("(visitor_id IS NULL) <> (clinic_id IS NULL)", name="one_owner"),
        # The history pages: newest first within one owner.
        Index(None, "visitor_id", "created_at", "id"),
        Index(None, "clinic_id", "created_at", "id"),
    )


class AuditEvent(Base):
    """Something that was done, kept when what it was done to is gone."""

    __tablename__ = "audit_event"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)
    actor: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(100), index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class RunStatus(StrEnum):
    """Where a run is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunQueue(StrEnum):
    """The device that a run needs."""

    CPU = "cpu"
    GPU = "gpu"


def _words(kind: type[StrEnum]) -> Enum:
    """Plain text in the database, so a further word is no change of a type."""
    return Enum(
        kind, native_enum=False, length=20, values_callable=lambda words: [str(w) for w in words]
    )


class Run(Base):
    """A long job: what was asked for, how far it is, and which worker holds it until when."""

    __tablename__ = "run"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    kind: Mapped[str] = mapped_column(String(50))
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    queue: Mapped[RunQueue] = mapped_column(_words(RunQueue))
    priority: Mapped[int] = mapped_column(default=0)  # higher goes first
    status: Mapped[RunStatus] = mapped_column(_words(RunStatus), default=RunStatus.QUEUED)
    requested_by: Mapped[str] = mapped_column(String(100))

    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # of the first attempt
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    # One attempt of one worker; a worker that comes back late is not the owner any more.
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)

    progress: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # step, of, eta_s, metrics
    reason: Mapped[str | None] = mapped_column(Text)  # of the last failure
    log_tail: Mapped[str] = mapped_column(Text, default="")

    # What goes first in a queue, and whose lease has expired.
    __table_args__ = (
        Index(None, "status", "queue", "priority", "created_at"),
        Index(None, "status", "lease_until"),
    )
