"""What people who know better say of images: recorded, shown, and written out as a data set."""

import hashlib
import hmac
import uuid
from collections.abc import Collection, Iterable

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.owner import Owner
from app.accounts.tables import User
from app.core.audit import AuditEvent
from app.core.errors import BadForm, NotFound
from app.datasets.corrections import row_holding
from app.screenings.tables import Review, Screening
from ml.labels import ordered_labels

LONGEST_WHY = 2000
LONGEST_PATIENT = 200


def review(
    session: Session,
    screening: Screening,
    reviewer: User | Owner,
    *,
    label: str,
    why: str,
    patient: str,
    choices: Collection[str],
    signing_key: str,
) -> Review:
    """Record what an image shows and commit it; from now on this review holds.

    Args:
        session: the database.
        screening: one that the reviewer may see.
        reviewer: the user who is signed in, or the clinic whose key was sent.
        label: the class that is right, the model's own or another.
        why: in the reviewer's words; needed where the model is corrected.
        patient: what the clinic calls the patient, or nothing. Only a keyed hash of it is kept, by
            which images of one patient are known to be of one patient.
        choices: the classes to choose from, of `review_choices`.
        signing_key: the secret of that hash.

    Raises:
        BadForm: no such class, no reason for a correction, or a text that is too long.
        NotFound: the screening was deleted meanwhile.
    """
    why, patient = why.strip(), patient.strip()
    if faults := _faults(screening, label, why, patient, choices):
        raise BadForm(faults)
    earlier = newest_review(session, screening.id)
    made = Review(
        id=uuid.uuid4(),
        screening_id=screening.id,
        user_id=reviewer.id if isinstance(reviewer, User) else None,
        clinic_id=None if isinstance(reviewer, User) else reviewer.clinic_id,
        label=label,
        # PostgreSQL takes no NUL in a text.
        why=why.replace("\0", ""),
        # A review without a patient keeps the patient of the review before.
        patient_key=_patient_key(screening, patient, signing_key)
        if patient
        else earlier and earlier.patient_key,
    )
    session.add(made)
    session.add(
        # It outlives the screening, so it holds nothing of the image or the answer.
        AuditEvent(actor=reviewer.actor, action="screening.reviewed", subject=str(screening.id))
    )
    try:
        session.commit()
    except IntegrityError as problem:
        raise NotFound("This screening has been deleted.") from problem
    return made


def review_choices(screening: Screening, active: Iterable[str]) -> tuple[str, ...]:
    """The classes that a reviewer may choose from.

    Args:
        screening: gives those of the model that made the prediction.
        active: those of the active model version, which may know more.
    """
    return ordered_labels([*screening.probabilities, *active])


def _faults(
    screening: Screening, label: str, why: str, patient: str, choices: Collection[str]
) -> dict[str, str]:
    faults = {}
    if label not in choices:
        faults["label"] = f"Choose what the image shows: {', '.join(choices)}."
    elif label != screening.label and not why:
        faults["why"] = "Enter a reason. It is required if the prediction is wrong."
    if len(why) > LONGEST_WHY:
        faults["why"] = f"Enter at most {LONGEST_WHY} characters."
    if len(patient) > LONGEST_PATIENT:
        faults["patient"] = f"Enter at most {LONGEST_PATIENT} characters."
    return faults


def _patient_key(screening: Screening, patient: str, signing_key: str) -> str:
    """A key for the patient that does not reveal the clinic's code without the secret."""
    whose = screening.clinic_id or screening.visitor_id
    return hmac.new(
        signing_key.encode(), f"patient|{whose}|{patient}".encode(), hashlib.sha256
    ).hexdigest()


def newest_review(session: Session, screening_id: uuid.UUID) -> Review | None:
    """The review that holds; None where there is none."""
    return session.scalar(
        select(Review)
        .where(Review.screening_id == screening_id)
        .order_by(Review.created_at.desc(), Review.id.desc())
        .limit(1)
    )


def reviewed_labels(session: Session, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """What reviews say of those screenings that have one."""
    holds = row_holding(Review.screening_id.in_(ids))
    query = select(holds.c.screening_id, holds.c.label)
    return {row.screening_id: row.label for row in session.execute(query)}


def count_reviewed(session: Session) -> int:
    """How many images have a review."""
    return session.scalar(select(func.count(Review.screening_id.distinct()))) or 0
