"""The rows: who asked, what was answered, by which model, and what was done with it."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Enum,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base, UtcDateTime, now


def _words(kind: type[StrEnum]) -> Enum:
    """Plain text in the database, so a further word is no change of a type."""
    return Enum(
        kind, native_enum=False, length=20, values_callable=lambda words: [str(w) for w in words]
    )


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


class Role(StrEnum):
    """What a user may do."""

    ADMIN = "admin"  # everything
    CLINICIAN = "clinician"  # see and review the screenings of their own clinic


class User(Base):
    """A person who signs in."""

    __tablename__ = "user"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(100), unique=True)  # as typed to sign in, lower case
    password_hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[Role] = mapped_column(_words(Role))
    clinic_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("clinic.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    clinic: Mapped[Clinic | None] = relationship(lazy="joined")

    @property
    def actor(self) -> str:
        """The user's name in the audit log."""
        return f"user:{self.name}"


class UserSession(Base):
    """A browser in which a user is signed in. Only the hash of its cookie's token is kept."""

    __tablename__ = "user_session"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)

    user: Mapped[User] = relationship(lazy="joined")


class ModelKind(StrEnum):
    """What a model does."""

    CLASSIFIER = "classifier"
    GENERATOR = "generator"


class ModelVersion(Base):
    """A classifier or a generator, with its card as it was then.

    Classifiers that answered films here and came from outside the registry have no folder.
    """

    __tablename__ = "model_version"

    # Of a classifier's graph, of a generator's weights.
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[ModelKind] = mapped_column(_words(ModelKind), default=ModelKind.CLASSIFIER)
    version: Mapped[str] = mapped_column(String(100), index=True)
    card: Mapped[dict[str, Any]] = mapped_column(JSON)
    registered_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    folder: Mapped[str | None] = mapped_column(String(200))  # in the home folder
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("run.id"))
    data_sha256: Mapped[str | None] = mapped_column(ForeignKey("data_version.sha256"))
    # SHA-256 of the generators whose films it learned from.
    parents: Mapped[list[str]] = mapped_column(JSON, default=list)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Comparison(Base):
    """A classifier measured beside another one on the same test films: what the gates go by."""

    __tablename__ = "comparison"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("run.id"))
    candidate_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"), index=True)
    reference_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    data_sha256: Mapped[str | None] = mapped_column(ForeignKey("data_version.sha256"))
    passed: Mapped[bool]
    faults: Mapped[list[str]] = mapped_column(JSON)  # why not, as sentences
    figures: Mapped[dict[str, Any]] = mapped_column(JSON)


class Activation(Base):
    """A classifier was put in service. The newest row names the one that answers."""

    __tablename__ = "activation"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    by: Mapped[str] = mapped_column(String(100))
    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    override: Mapped[str | None] = mapped_column(Text)  # why in spite of the gates


class DataKind(StrEnum):
    """Whose films a data set has."""

    FILMS = "films"  # of people, or of the demonstration
    SYNTHETIC = "synthetic"  # of a generator: they train, and measure nothing


class DataVersion(Base):
    """A data set as it will always be: its name is the hash of its content."""

    __tablename__ = "data_version"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[DataKind] = mapped_column(_words(DataKind))
    name: Mapped[str] = mapped_column(String(200), index=True)
    folder: Mapped[str] = mapped_column(String(200))  # in the home folder
    films: Mapped[int]
    summary: Mapped[dict[str, Any]] = mapped_column(JSON)  # of `xray data seal`
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    created_by: Mapped[str] = mapped_column(String(100))
    # Of the run that made it; runs refer to data versions, and two tables cannot to each other.
    run_id: Mapped[uuid.UUID | None]
    parent_sha256: Mapped[str | None] = mapped_column(ForeignKey("data_version.sha256"))
    # Whether "Real or synthetic?" may show its films, as far as their licence allows it.
    quiz_allowed: Mapped[bool] = mapped_column(default=False)


class SyntheticFilm(Base):
    """A film of the gallery."""

    __tablename__ = "synthetic_film"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    data_sha256: Mapped[str] = mapped_column(ForeignKey("data_version.sha256"))
    label: Mapped[str] = mapped_column(String(50))
    seed: Mapped[str] = mapped_column(String(20))  # 0 to 2^32-1; empty where it is not known
    image: Mapped[str] = mapped_column(String(200))  # in the folder of the data version
    nearest_percentile: Mapped[float | None]  # None: compared with no real film
    certificate: Mapped[dict[str, Any]] = mapped_column(JSON)

    # The gallery's pages: newest first, all or of a model, of all classes or one.
    __table_args__ = (
        UniqueConstraint("data_sha256", "image"),
        Index(None, "model_sha256", "label", "id"),
        Index(None, "label", "id"),
    )


class QuizRound(Base):
    """One reader's guesses which films are real."""

    __tablename__ = "quiz_round"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    visitor_id: Mapped[str] = mapped_column(String(64))
    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"), index=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Without films of people a round is practice and says nothing of a model.
    counts: Mapped[bool]
    right: Mapped[int | None]
    # Films of each half that were taken for real, once it is finished: figures are sums of these.
    synthetic_taken_for_real: Mapped[int | None]
    real_taken_for_real: Mapped[int | None]
    films: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    guesses: Mapped[list[bool] | None] = mapped_column(JSON)  # for each film: real?

    # The open ones, oldest first.
    __table_args__ = (Index(None, "finished_at", "started_at"),)


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


class Review(Base):
    """What somebody who knows better says a film shows; the newest of a screening holds.

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
    label: Mapped[str] = mapped_column(String(50))
    why: Mapped[str] = mapped_column(Text, default="")
    # Keyed hash of what the clinic calls the patient; the name itself is not kept.
    patient_key: Mapped[str | None] = mapped_column(String(64))

    user: Mapped[User | None] = relationship(lazy="joined")
    clinic: Mapped[Clinic | None] = relationship(lazy="joined")

    __table_args__ = (
        CheckConstraint("(user_id IS NULL) <> (clinic_id IS NULL)", name="one_reviewer"),
    )

    @property
    def by(self) -> str:
        """Who said it: a user's name, or the clinic's."""
        named = self.user or self.clinic
        return named.name if named else ""


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
    # What came of it: addresses and digests of what was registered, the figures of a measurement.
    result: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)

    data_sha256: Mapped[str | None] = mapped_column(ForeignKey("data_version.sha256"))
    schedule_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("schedule.id"))
    slot: Mapped[str | None] = mapped_column(String(30))  # of the schedule, as 2026-11-24T02:00

    # What goes first in a queue, whose lease has expired, and one run for a schedule's slot.
    __table_args__ = (
        Index(None, "status", "queue", "priority", "created_at"),
        Index(None, "status", "lease_until"),
        Index(None, "schedule_id", "slot", unique=True),
    )


class Schedule(Base):
    """A run to be started again and again, at a time of day on some days of the week."""

    __tablename__ = "schedule"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    kind: Mapped[str] = mapped_column(String(50))
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    queue: Mapped[RunQueue] = mapped_column(_words(RunQueue))
    priority: Mapped[int] = mapped_column(default=0)
    at: Mapped[str] = mapped_column(String(5))  # 02:00, UTC
    weekdays: Mapped[str] = mapped_column(String(7))  # digits, 0 is Monday
    enabled: Mapped[bool] = mapped_column(default=True)
    # What would have been due before was not missed.
    enabled_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    created_by: Mapped[str] = mapped_column(String(100))
