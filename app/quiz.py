"""Rounds of "Real or synthetic?": begun, finished once, and what they say of a generator."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from app.db import now
from app.errors import Busy, Conflict, NotFound
from app.models import ModelVersion, QuizRound
from app.quiz_films import HALF, draw, offer
from app.realism import Guesses, Realism, realism_of
from app.settings import Settings

EXPIRES = timedelta(hours=2)
# Rounds that were begun and not finished, of all readers; more of them are no readers'.
MOST_OPEN = 5000


def begin(
    session: Session,
    settings: Settings,
    reader: str,
    model: ModelVersion,
    labels: Sequence[str],
    others: Sequence[ModelVersion],
) -> QuizRound:
    """The reader's open round of a generator, or a new one.

    Args:
        session: the database; commit afterwards.
        settings: name the home folder.
        reader: the visitor of the cookie.
        model: the generator.
        labels: the classes that it makes.
        others: further generators that make films here.

    Raises:
        Conflict: there is nothing to compare with.
        Busy: too many rounds are open.
    """
    unfinished = QuizRound.finished_at.is_(None)
    alive = QuizRound.started_at > now() - EXPIRES
    open_round = session.scalar(
        select(QuizRound)
        .where(
            QuizRound.model_sha256 == model.sha256,
            QuizRound.visitor_id == reader,
            unfinished,
            alive,
        )
        .order_by(QuizRound.started_at.desc())
        .limit(1)
    )
    if open_round:
        return open_round
    found = offer(session, settings, model, labels, others)
    session.execute(delete(QuizRound).where(unfinished, ~alive))
    if (session.scalar(select(func.count()).where(unfinished)) or 0) >= MOST_OPEN:
        raise Busy("too many rounds are open: try again in an hour", retry_after_s=3600)
    begun = QuizRound(
        id=uuid.uuid4(),
        visitor_id=reader,
        model_sha256=model.sha256,
        started_at=now(),
        counts=found.counts,
        films=draw(found, labels),
    )
    session.add(begun)
    session.flush()
    return begun


def find_round(session: Session, id: uuid.UUID, reader: str | None) -> QuizRound:
    """A round of this reader.

    Raises:
        NotFound: there is no such round, it is another reader's, or it has expired.
    """
    found = session.get(QuizRound, id)
    if found is None or found.visitor_id != reader or has_expired(found):
        raise NotFound("there is no such round, it is not yours, or it has expired: begin another")
    return found


def has_expired(found: QuizRound) -> bool:
    """Whether it can no longer be finished."""
    return found.finished_at is None and found.started_at <= now() - EXPIRES


def finish(session: Session, found: QuizRound, guesses: Sequence[bool]) -> None:
    """Keep the guesses, once and for all; commit afterwards.

    Args:
        session: the database.
        found: the round.
        guesses: for each film, whether it was taken for real.

    Raises:
        Conflict: the round was finished before, or has expired.
    """
    answers = [bool(film["real"]) for film in found.films]
    right = sum(said == truth for said, truth in zip(guesses, answers, strict=True))
    # Of a form that was sent twice, one counts.
    done = session.execute(
        update(QuizRound)
        .where(
            QuizRound.id == found.id,
            QuizRound.finished_at.is_(None),
            QuizRound.started_at > now() - EXPIRES,
        )
        .values(finished_at=now(), guesses=list(guesses), right=right)
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[Any]", done).rowcount != 1:
        raise Conflict("this round is over: its first answers count")


def realism(session: Session, sha256: str) -> Realism | None:
    """The figures of a generator; None before the first round that counts."""
    query = select(QuizRound.visitor_id, QuizRound.films, QuizRound.guesses).where(
        QuizRound.model_sha256 == sha256,
        QuizRound.counts,
        QuizRound.finished_at.is_not(None),
    )
    rounds = []
    for reader, films, guesses in session.execute(query):
        taken = [film["real"] for film, said in zip(films, guesses, strict=True) if said]
        rounds.append(Guesses(reader, taken.count(False), taken.count(True), HALF))
    return realism_of(rounds)
