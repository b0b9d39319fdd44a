"""Rounds of "Real or synthetic?": begun, finished once, and what they say of a generator."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.core.database import affected_rows, now
from app.core.errors import AppError, Conflict, NotFound
from app.core.rate_limit import RateLimit, RateLimits
from app.quiz.selection import HALF, choose_source, draw
from app.quiz.statistics import Guesses, Realism, realism_over_readers
from app.quiz.tables import QuizRound
from app.registry.tables import ModelVersion
from app.settings import Settings
from ml.texts import msg

EXPIRES = timedelta(hours=2)
# Rounds that were begun and not finished, of all readers; more of them are no readers'.
MOST_OPEN = 5000
# Rounds that one address may begin: enough for a class of students behind one.
MOST_A_DAY = 100
_DAY_S = 24 * 3600


class TooManyRounds(AppError):
    """One address has begun too many rounds."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    title = msg("Too many rounds")
    default_code = "too-many-rounds"

    def __init__(self) -> None:
        super().__init__(
            msg(
                "You can start at most %(most_a_day)s rounds a day. Try again tomorrow.",
                most_a_day=MOST_A_DAY,
            )
        )


def rounds_limit(limits: RateLimits) -> RateLimit:
    """How many rounds an address may begin, so that no one decides a generator's metric alone."""
    return limits.limit("quiz-rounds", MOST_A_DAY, _DAY_S)


def open_round(session: Session, reader: str, model: ModelVersion) -> QuizRound | None:
    """The round of a generator that a reader has begun and can still finish."""
    return session.scalar(
        select(QuizRound)
        .where(
            QuizRound.model_sha256 == model.sha256,
            QuizRound.visitor_id == reader,
            QuizRound.finished_at.is_(None),
            QuizRound.started_at > now() - EXPIRES,
        )
        .order_by(QuizRound.started_at.desc())
        .limit(1)
    )


def begin(
    session: Session,
    settings: Settings,
    reader: str,
    model: ModelVersion,
    labels: Sequence[str],
    others: Sequence[ModelVersion],
) -> QuizRound:
    """A new round; the oldest open ones make room for it where too many are open.

    Args:
        session: the database; commit afterwards.
        settings: name the home folder.
        reader: the visitor of the cookie.
        model: the generator.
        labels: the classes that it makes.
        others: further generators that make images here.

    Raises:
        Conflict: there is nothing to compare with.
    """
    found = choose_source(session, settings, model, labels, others)
    _make_room(session)
    begun = QuizRound(
        id=uuid.uuid4(),
        visitor_id=reader,
        model_sha256=model.sha256,
        started_at=now(),
        counts=found.counts,
        images=draw(found, labels),
    )
    session.add(begun)
    session.flush()
    return begun


def _make_room(session: Session) -> None:
    unfinished = QuizRound.finished_at.is_(None)
    session.execute(delete(QuizRound).where(unfinished, QuizRound.started_at <= now() - EXPIRES))
    surplus = (
        select(QuizRound.id)
        .where(unfinished)
        .order_by(QuizRound.started_at.desc())
        .offset(MOST_OPEN - 1)
    )
    # One that is finished meanwhile stays.
    session.execute(delete(QuizRound).where(unfinished, QuizRound.id.in_(surplus)))


def find_round(session: Session, id: uuid.UUID, reader: str | None) -> QuizRound:
    """A round of this reader.

    Raises:
        NotFound: there is no such round, it is another reader's, or it has expired.
    """
    found = session.get(QuizRound, id)
    if found is None or found.visitor_id != reader or has_expired(found):
        raise NotFound(
            msg(
                "This round does not exist, has expired or belongs to another browser. Start "
                "a new one."
            )
        )
    return found


def has_expired(found: QuizRound) -> bool:
    """Whether it can no longer be finished."""
    return found.finished_at is None and found.started_at <= now() - EXPIRES


def finish_round(session: Session, found: QuizRound, guesses: Sequence[bool]) -> None:
    """Keep the guesses, once and for all; commit afterwards.

    Args:
        session: the database.
        found: the round.
        guesses: for each image, whether it was judged real.

    Raises:
        Conflict: the round was finished before, or has expired.
    """
    answers = [bool(image["real"]) for image in found.images]
    right = sum(said == truth for said, truth in zip(guesses, answers, strict=True))
    taken = [truth for said, truth in zip(guesses, answers, strict=True) if said]
    # Of a form that was sent twice, one counts.
    finish = (
        update(QuizRound)
        .where(
            QuizRound.id == found.id,
            QuizRound.finished_at.is_(None),
            QuizRound.started_at > now() - EXPIRES,
        )
        .values(
            finished_at=now(),
            guesses=list(guesses),
            right=right,
            synthetic_taken_for_real=taken.count(False),
            real_taken_for_real=taken.count(True),
        )
    )
    if not affected_rows(session, finish):
        raise Conflict(msg("This round is finished. Its first answers count."))


def realism(session: Session, sha256: str) -> Realism | None:
    """The metrics of a generator; None before the first round that counts."""
    query = (
        select(
            func.count(),
            func.sum(QuizRound.synthetic_taken_for_real),
            func.sum(QuizRound.real_taken_for_real),
        )
        .where(
            QuizRound.model_sha256 == sha256, QuizRound.counts, QuizRound.finished_at.is_not(None)
        )
        .group_by(QuizRound.visitor_id)
    )
    return realism_over_readers(
        [
            Guesses(rounds, synthetic or 0, real or 0, rounds * HALF)
            for rounds, synthetic, real in session.execute(query)
        ]
    )
