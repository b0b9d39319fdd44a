"""The state of each clinic's predictions, and alarms, each recorded and announced once."""

import uuid
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from pydantic import JsonValue
from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from app.accounts.tables import Clinic
from app.core.audit import AuditEvent
from app.core.database import Database, now
from app.core.errors import NotFound
from app.core.notifications import notify
from app.monitoring.tables import MonitoringAlarm
from app.screenings.reviews import reviewed_labels
from app.screenings.tables import Review, Screening
from app.settings import Settings
from ml.classifier.predictor import UNCERTAIN
from ml.evaluation.monitoring import (
    BLOCK_IMAGES,
    REFERENCE_IMAGES,
    REVIEWS,
    BlockTest,
    Observed,
    ReviewedShare,
    compare_block,
    judge_reviews,
)
from ml.labels import NO_CLASS, OTHER_FINDING
from ml.texts import msg

PAGE = "/admin/monitoring"
# Blocks that one check looks back at; more do not fill up between two checks.
_LATEST_BLOCKS = 10
_LATEST_REVIEWS = 100


class State(StrEnum):
    """What is known of a clinic."""

    TOO_FEW = msg("too few images")
    NO_CHANGE = msg("no change found")
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class ScreeningGroup:
    """Screenings that can be compared: of one clinic, classifier and version of thresholds."""

    clinic: Clinic
    model_sha256: str
    model_version: str
    thresholds_id: int | None
    images: int

    def query(self) -> Select[Screening]:
        """Its screenings, oldest first."""
        return (
            select(Screening)
            .where(
                Screening.clinic_id == self.clinic.id,
                Screening.model_sha256 == self.model_sha256,
                Screening.clinic_thresholds_id.is_(None)
                if self.thresholds_id is None
                else Screening.clinic_thresholds_id == self.thresholds_id,
            )
            .order_by(Screening.created_at, Screening.id)
        )

    @property
    def blocks(self) -> int:
        """Complete blocks after the reference."""
        return max(0, (self.images - REFERENCE_IMAGES) // BLOCK_IMAGES)


@dataclass(frozen=True, slots=True)
class ClinicState:
    """A clinic on the page.

    Attributes:
        missing: images until the first block is complete.
        before: decision -> share of the reference.
        after: decision -> share of the newest block, or of the images so far.
        tests: of the newest complete block; none while there are too few images.
        reviews: what reviewers say of definite predictions.
    """

    group: ScreeningGroup
    state: State
    missing: int
    before: dict[str, float]
    after: dict[str, float]
    tests: list[BlockTest]
    reviews: ReviewedShare


def clinic_states(session: Session) -> list[ClinicState]:
    """The state of every clinic that has screenings, by name."""
    return [_state(session, group) for group in _groups(session)]


def _groups(session: Session) -> list[ScreeningGroup]:
    """Of each clinic the group that its newest screening belongs to."""
    found = []
    for clinic in session.scalars(select(Clinic).order_by(Clinic.name)):
        newest = session.scalar(
            select(Screening)
            .where(Screening.clinic_id == clinic.id)
            .order_by(Screening.created_at.desc(), Screening.id.desc())
            .limit(1)
        )
        if newest is None:
            continue
        group = ScreeningGroup(
            clinic, newest.model_sha256, newest.model_version, newest.clinic_thresholds_id, 0
        )
        own = group.query().order_by(None).subquery()
        count = session.scalar(select(func.count()).select_from(own)) or 0
        found.append(
            ScreeningGroup(
                clinic, group.model_sha256, group.model_version, group.thresholds_id, count
            )
        )
    return found


def _state(session: Session, group: ScreeningGroup) -> ClinicState:
    reference = _observed(session, group, 0, REFERENCE_IMAGES)
    reviews = _reviews(session, group)
    tests = []
    if group.blocks:
        block = _block(session, group, group.blocks)
        tests = compare_block(reference, block)
    else:
        block = _observed(session, group, max(0, group.images - BLOCK_IMAGES), BLOCK_IMAGES)
    alarm = reviews.is_alarm or any(test.is_alarm for test in tests)
    state = State.NO_CHANGE if group.blocks else State.TOO_FEW
    return ClinicState(
        group=group,
        state=State.ALARM if alarm else state,
        missing=max(0, REFERENCE_IMAGES + BLOCK_IMAGES - group.images),
        before=_shares(reference),
        after=_shares(block),
        tests=tests,
        reviews=reviews,
    )


def _block(session: Session, group: ScreeningGroup, number: int) -> Observed:
    """A complete block, from 1."""
    start = REFERENCE_IMAGES + (number - 1) * BLOCK_IMAGES
    return _observed(session, group, start, BLOCK_IMAGES)


def _observed(session: Session, group: ScreeningGroup, start: int, count: int) -> Observed:
    columns = (
        Screening.decision,
        Screening.probabilities,
        Screening.ood_score,
        Screening.image_sha256,
    )
    rows = session.execute(
        group.query().with_only_columns(*columns).offset(start).limit(count)
    ).all()
    return Observed(
        [row.decision for row in rows],
        [max(row.probabilities.values(), default=0.0) for row in rows],
        [row.ood_score for row in rows],
        [row.image_sha256 for row in rows],
    )


def _shares(observed: Observed) -> dict[str, float]:
    counts = Counter(observed.decisions)
    return {name: count / len(observed) for name, count in sorted(counts.items())}


def _reviews(session: Session, group: ScreeningGroup) -> ReviewedShare:
    """The newest reviewed definite predictions of a group."""
    reviewed = select(Review.screening_id).scalar_subquery()
    definite = (
        group.query()
        .with_only_columns(Screening.id, Screening.decision)
        .where(Screening.decision != UNCERTAIN, Screening.id.in_(reviewed))
        .order_by(None)
        .order_by(Screening.created_at.desc(), Screening.id.desc())
        .limit(_LATEST_REVIEWS)
    )
    decisions = {row.id: row.decision for row in session.execute(definite)}
    labels = reviewed_labels(session, list(decisions))
    # An image that nobody can read, or of another part, says nothing about the classifier.
    judged = {
        screening: label
        for screening, label in labels.items()
        if label == OTHER_FINDING or label not in NO_CLASS
    }
    wrong = sum(label != decisions[screening] for screening, label in judged.items())
    return judge_reviews(wrong, len(judged))


def check_clinics(database: Database, settings: Settings) -> int:
    """Look for changes at every clinic, and record and announce new alarms.

    Returns:
        How many are new.
    """
    with database.sessions() as session:
        found = [
            (group, alarm, block)
            for group in _groups(session)
            for alarm, block in _alarms(session, group)
        ]
    return sum(_record(database, settings, *one) for one in found)


def _alarms(session: Session, group: ScreeningGroup) -> list[tuple[BlockTest, int]]:
    """Alarms of the latest blocks, and of the reviews."""
    alarms = []
    reference = _observed(session, group, 0, REFERENCE_IMAGES) if group.blocks else None
    for number in range(max(1, group.blocks - _LATEST_BLOCKS + 1), group.blocks + 1):
        assert reference is not None
        tests = compare_block(reference, _block(session, group, number))
        alarms += [(test, number) for test in tests if test.is_alarm]
    reviews = _reviews(session, group)
    if reviews.is_alarm:
        # Once for each block of reviews, so that it is not repeated every hour.
        test = BlockTest(REVIEWS, 0.01, is_alarm=True)
        alarms.append((test, 1 + reviews.wrong.n // _LATEST_REVIEWS))
    return alarms


def _record(
    database: Database, settings: Settings, group: ScreeningGroup, alarm: BlockTest, block: int
) -> bool:
    """Record an alarm and its notification; False where it is recorded already."""
    # Blocks begin again with each version of thresholds.
    number = (group.thresholds_id or 0) * 1_000_000 + block
    row = MonitoringAlarm(
        id=uuid.uuid4(),
        clinic_id=group.clinic.id,
        model_sha256=group.model_sha256,
        test=alarm.test,
        block=number,
        detail={"p_value": alarm.p_value, "images": group.images, "block": block},
    )
    known = select(MonitoringAlarm.id).where(
        MonitoringAlarm.clinic_id == row.clinic_id,
        MonitoringAlarm.model_sha256 == row.model_sha256,
        MonitoringAlarm.test == row.test,
        MonitoringAlarm.block == row.block,
    )
    try:
        with database.session() as session:
            if session.scalar(known) is not None:
                return False
            session.add(row)
            session.flush()
            detail: dict[str, JsonValue] = {
                "clinic": str(group.clinic.id),
                "model": group.model_sha256,
                "test": alarm.test,
                "block": block,
                "p_value": float(f"{alarm.p_value:.3g}"),
            }
            notify(session, settings, "monitoring.alarm", detail, path=PAGE)
    except IntegrityError:
        # Another server was faster.
        return False
    return True


def list_alarms(session: Session) -> list[MonitoringAlarm]:
    """The newest alarms, those that nobody has acknowledged first; at most 100."""
    query = select(MonitoringAlarm).options(joinedload(MonitoringAlarm.clinic))
    order = (MonitoringAlarm.acknowledged_at.is_not(None), MonitoringAlarm.at.desc())
    return list(session.scalars(query.order_by(*order).limit(100)))


def acknowledge(session: Session, id: uuid.UUID, *, by: str) -> None:
    """Record that somebody has seen an alarm.

    Raises:
        NotFound: there is no such alarm.
    """
    row = session.get(MonitoringAlarm, id)
    if row is None:
        raise NotFound(msg("There is no such alarm."))
    if row.acknowledged_at is None:
        row.acknowledged_at, row.acknowledged_by = now(), by
        session.add(
            AuditEvent(
                actor=by,
                action="clinic.alarm-acknowledged",
                subject=str(row.clinic_id),
                detail={"test": row.test},
            )
        )
