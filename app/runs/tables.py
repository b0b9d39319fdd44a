"""Tables of runs and schedules."""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    JSON,
    ForeignKey,
    Index,
    String,
    Text,
    Uuid,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, UtcDateTime, enum_values, now
from ml.json_model import JsonObject


class RunStatus(StrEnum):
    """State of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunQueue(StrEnum):
    """Device that a run needs."""

    CPU = "cpu"
    GPU = "gpu"


class RunLane(StrEnum):
    """Which runs wait for each other: a worker executes one run of each lane at a time."""

    LONG = "long"  # trainings
    SHORT = "short"  # evaluations, image generation, imports


class Run(Base):
    """A run: its options, its progress, and which worker holds its lease until when."""

    __tablename__ = "run"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    run_type: Mapped[str] = mapped_column(String(50))
    options: Mapped[JsonObject] = mapped_column(JSON)
    queue: Mapped[RunQueue] = mapped_column(enum_values(RunQueue))
    priority: Mapped[int] = mapped_column(default=0)  # higher goes first
    status: Mapped[RunStatus] = mapped_column(enum_values(RunStatus), default=RunStatus.QUEUED)
    requested_by: Mapped[str] = mapped_column(String(100))
    name: Mapped[str] = mapped_column(String(100), default="")
    tags: Mapped[str] = mapped_column(String(300), default="")  # with commas between
    notes: Mapped[str] = mapped_column(Text, default="")

    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # of the first attempt
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finish_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    archived_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    # Names one attempt of one worker; one that returns late no longer owns the run.
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    worker: Mapped[str | None] = mapped_column(String(200))  # machine of the last attempt

    progress: Mapped[JsonObject] = mapped_column(JSON, default=dict)  # RunProgress
    reason: Mapped[str | None] = mapped_column(Text)  # of the last failure
    log_tail: Mapped[str] = mapped_column(Text, default="")
    # A RunResult: digests of what was registered, metrics of an evaluation.
    result: Mapped[JsonObject] = mapped_column(JSON, default=dict)

    data_sha256: Mapped[str | None] = mapped_column(ForeignKey("data_version.sha256"))
    schedule_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("schedule.id"))
    slot: Mapped[str | None] = mapped_column(String(30))  # of the schedule, as 2026-11-24T02:00

    # The next run of a queue, runs whose lease has expired, and one run per slot of a schedule.
    __table_args__ = (
        Index(None, "status", "queue", "priority", "created_at"),
        Index(None, "status", "lease_until"),
        Index(None, "schedule_id", "slot", unique=True),
    )


class Schedule(Base):
    """Starts a run at a time of day on some days of the week."""

    __tablename__ = "schedule"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    run_type: Mapped[str] = mapped_column(String(50))
    options: Mapped[JsonObject] = mapped_column(JSON)
    queue: Mapped[RunQueue] = mapped_column(enum_values(RunQueue))
    priority: Mapped[int] = mapped_column(default=0)
    at: Mapped[str] = mapped_column(String(5))  # 02:00, UTC
    weekdays: Mapped[str] = mapped_column(String(7))  # digits, 0 is Monday
    enabled: Mapped[bool] = mapped_column(default=True)
    # Slots before it count as not missed.
    enabled_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    created_by: Mapped[str] = mapped_column(String(100))
