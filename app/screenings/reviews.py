"""What people who know better say of images: recorded, shown, and written out as a data set."""

import hashlib
import hmac
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.owner import Owner
from app.accounts.tables import User
from app.core.audit import AuditEvent
from app.core.errors import Conflict, InvalidForm, NotFound
from app.datasets.corrections import row_holding
from app.screenings.samples import is_of_a_sample
from app.screenings.tables import Review, Screening
from ml.labels import NO_CLASS, OTHER_FINDING, ordered_labels
from ml.texts import msg

# Stands for the id of a review where there is none; forms drop an empty text.
NO_REVIEW = "none"
LONGEST_WHY = 2000
LONGEST_FINDING = 200
LONGEST_PATIENT = 200


@dataclass(frozen=True, slots=True)
class SentReview:
    """What a reviewer says of an image.

    Attributes:
        label: the class that is right, the model's own or another, or one of `NO_CLASS`.
        why: in the reviewer's words; needed where another class is right.
        patient: what the clinic calls the patient, or nothing. Only a keyed hash of it is kept, by
            which images of one patient are known to be of one patient.
        finding: what the image shows, where that is none of the classes.
        seen: the id of the review that counted when the reviewer decided, `NO_REVIEW` where there
            was none; None: whichever counts now.
    """

    label: str
    why: str = ""
    patient: str = ""
    finding: str = ""
    seen: str | None = None


def review(
    session: Session,
    screening: Screening,
    reviewer: User | Owner,
    sent: SentReview,
    *,
    choices: Collection[str],
    signing_key: str,
) -> Review:
    """Record what an image shows and commit it; from now on this review holds.

    Args:
        session: the database.
        screening: one that the reviewer may see.
        reviewer: the user who is signed in, or the clinic whose key was sent.
        sent: what the reviewer says.
        choices: the classes to choose from, of `review_choices`.
        signing_key: the secret of that hash.

    Raises:
        InvalidForm: no such class, no reason for a correction, or a text that is too long.
        Conflict: another review was saved since the reviewer looked.
        NotFound: the screening was deleted meanwhile.
    """
    made = _add(session, screening, reviewer, sent, choices, signing_key)
    _commit(session)
    return made


def review_all(
    session: Session,
    seen: Mapping[Screening, str | None],
    reviewer: User | Owner,
    sent: SentReview,
    *,
    choices: Collection[str],
    signing_key: str,
) -> None:
    """Record the same review for several images in one transaction: for all of them, or none.

    Args:
        session: the database.
        seen: screenings that the reviewer may see, each with its `SentReview.seen`.
        reviewer: as of `review`, as are the other arguments.
        sent: what the reviewer says of each.
        choices: the classes to choose from.
        signing_key: the secret of the hash.

    Raises:
        InvalidForm, Conflict, NotFound: as `review`, for one of the images.
    """
    # Always in one order, so that two of these wait for each other and not both for both.
    for screening in sorted(seen, key=lambda one: one.id):
        own = replace(sent, seen=seen[screening])
        try:
            _add(session, screening, reviewer, own, choices, signing_key)
        except InvalidForm:
            session.rollback()
            raise
    _commit(session)


def _add(
    session: Session,
    screening: Screening,
    reviewer: User | Owner,
    sent: SentReview,
    choices: Collection[str],
    signing_key: str,
) -> Review:
    """Add a review to the transaction; the arguments and errors are those of `review`."""
    sent = _trimmed(sent)
    if faults := _faults(screening, sent, choices):
        raise InvalidForm(faults)
    _lock(session, screening)
    earlier = newest_review(session, screening.id)
    if sent.seen is not None and sent.seen != review_id(earlier):
        session.rollback()
        raise Conflict(
            msg(
                "Another review of this image was saved in the meantime, and yours was not. "
                "Send it again if it still holds."
            )
        )
    made = Review(
        id=uuid.uuid4(),
        screening_id=screening.id,
        user_id=reviewer.id if isinstance(reviewer, User) else None,
        clinic_id=None if isinstance(reviewer, User) else reviewer.clinic_id,
        label=sent.label,
        finding=sent.finding,
        why=sent.why,
        # A review without a patient keeps the patient of the review before.
        patient_key=_patient_key(screening, sent.patient, signing_key)
        if sent.patient
        else earlier and earlier.patient_key,
    )
    session.add(made)
    session.add(
        # It outlives the screening, so it holds nothing of the image or the answer.
        AuditEvent(actor=reviewer.actor, action="screening.reviewed", subject=str(screening.id))
    )
    return made


def _commit(session: Session) -> None:
    try:
        session.commit()
    except IntegrityError as problem:
        raise NotFound(msg("This screening has been deleted.")) from problem


def review_choices(screening: Screening, active: Iterable[str]) -> tuple[str, ...]:
    """What a reviewer may choose from: the classes, and what is none of them.

    Args:
        screening: gives those of the model that made the prediction.
        active: those of the active model version, which may know more.
    """
    return (*ordered_labels([*screening.probabilities, *active]), *NO_CLASS)


def _trimmed(sent: SentReview) -> SentReview:
    """Without blanks around texts, without a finding that belongs to no choice, without NUL."""
    # PostgreSQL takes no NUL in a text.
    why, patient, finding = (
        text.replace("\0", "").strip() for text in (sent.why, sent.patient, sent.finding)
    )
    return SentReview(
        sent.label, why, patient, finding if sent.label == OTHER_FINDING else "", sent.seen
    )


def _faults(screening: Screening, sent: SentReview, choices: Collection[str]) -> dict[str, str]:
    faults = {}
    if is_of_a_sample(screening.image_sha256):
        faults["label"] = msg(
            "This image is a synthetic sample. Reviews are for images of patients."
        )
    elif sent.label not in choices:
        faults["label"] = msg(
            "Choose what the image shows: %(choices)s.", choices=", ".join(choices)
        )
    elif sent.label == OTHER_FINDING and not sent.finding:
        faults["finding"] = msg("Enter the finding, for example: pleural effusion.")
    elif sent.label not in (screening.label, *NO_CLASS) and not sent.why:
        faults["why"] = msg("Enter a reason. It is required if the prediction is wrong.")
    longest = {"why": LONGEST_WHY, "finding": LONGEST_FINDING, "patient": LONGEST_PATIENT}
    for name, most in longest.items():
        if len(getattr(sent, name)) > most:
            faults[name] = msg("Enter at most %(most)s characters.", most=most)
    return faults


def _lock(session: Session, screening: Screening) -> None:
    """Let a review at the same moment wait, by a write that changes nothing."""
    own = update(Screening).where(Screening.id == screening.id)
    session.execute(own.values(label=Screening.label))


def _patient_key(screening: Screening, patient: str, signing_key: str) -> str:
    """A key for the patient that does not reveal the clinic's code without the secret."""
    whose = screening.clinic_id or screening.visitor_id
    return hmac.new(
        signing_key.encode(), f"patient|{whose}|{patient}".encode(), hashlib.sha256
    ).hexdigest()


def review_id(found: Review | None) -> str:
    """The id of a review, or `NO_REVIEW`."""
    return str(found.id) if found else NO_REVIEW


def newest_review(session: Session, screening_id: uuid.UUID) -> Review | None:
    """The review that holds; None where there is none."""
    return session.scalar(
        select(Review)
        .where(Review.screening_id == screening_id)
        .order_by(Review.created_at.desc(), Review.id.desc())
        .limit(1)
    )


def readings(session: Session, screening_id: uuid.UUID) -> list[Review]:
    """The newest review of each reader of a screening, newest first."""
    query = select(Review).where(Review.screening_id == screening_id)
    found = session.scalars(query.order_by(Review.created_at.desc(), Review.id.desc()))
    by_reader: dict[object, Review] = {}
    for one in found:
        by_reader.setdefault(one.user_id or one.clinic_id, one)
    return list(by_reader.values())


def is_blind(user: User | None, found: Sequence[Review]) -> bool:
    """Whether a reader has still to read an image that others have read.

    Such a reader is not shown the others' answers, so that the second reading is independent.
    """
    return user is not None and bool(found) and all(one.user_id != user.id for one in found)


def hidden_reviews(session: Session, ids: Collection[uuid.UUID], user: User) -> set[uuid.UUID]:
    """Those of the screenings that others have reviewed and this user has not."""
    query = select(Review.screening_id, Review.user_id).where(Review.screening_id.in_(ids))
    rows = session.execute(query).all()
    return {row.screening_id for row in rows} - {
        row.screening_id for row in rows if row.user_id == user.id
    }


def reviewed_labels(session: Session, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """What reviews say of those screenings that have one."""
    holds = row_holding(Review.screening_id.in_(ids))
    query = select(holds.c.screening_id, holds.c.label)
    return {row.screening_id: row.label for row in session.execute(query)}


def count_reviewed(session: Session) -> int:
    """How many images have a review that names a class, and can be trained with."""
    holds = row_holding()
    query = select(func.count()).select_from(holds).where(holds.c.label.not_in(NO_CLASS))
    return session.scalar(query) or 0
