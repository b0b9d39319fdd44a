"""What people who know better say of films: recorded, shown, and written out as a data set."""

import csv
import hashlib
import hmac
import uuid
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import ColumnElement, Subquery, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import BadForm, NotFound
from app.models import AuditEvent, Review, Screening, User
from app.screening import Owner, film_key
from app.storage import Storage
from ml.data import COLUMNS, MANIFEST
from ml.importers.candidates import clean_age, clean_sex
from ml.labels import LABELS

LONGEST_WHY = 2000
LONGEST_PATIENT = 200
_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg"}


def review(
    session: Session,
    screening: Screening,
    reviewer: User | Owner,
    *,
    label: str,
    why: str,
    patient: str,
    signing_key: str,
) -> Review:
    """Record what a film shows and commit it; from now on this review holds.

    Args:
        session: the database.
        screening: one that the reviewer may see.
        reviewer: the user who is signed in, or the clinic whose key was sent.
        label: the class that is right, the model's own or another.
        why: in the reviewer's words; needed where the model is corrected.
        patient: what the clinic calls the patient, or nothing. Only a keyed hash of it is kept, by
            which films of one patient are known to be of one patient.
        signing_key: the secret of that hash.

    Raises:
        BadForm: no such class, no reason for a correction, or a text that is too long.
        NotFound: the screening was deleted meanwhile.
    """
    why, patient = why.strip(), patient.strip()
    if faults := _faults(screening, label, why, patient):
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
        # Whoever leaves the patient out does not take back what was said before.
        patient_key=_patient_key(screening, patient, signing_key)
        if patient
        else earlier and earlier.patient_key,
    )
    session.add(made)
    session.add(
        # It outlives the screening, so it holds nothing of the film or the answer.
        AuditEvent(actor=reviewer.actor, action="screening.reviewed", subject=str(screening.id))
    )
    try:
        session.commit()
    except IntegrityError as problem:
        raise NotFound("the screening was deleted meanwhile") from problem
    return made


def _faults(screening: Screening, label: str, why: str, patient: str) -> dict[str, str]:
    faults = {}
    if label not in LABELS:
        faults["label"] = f"choose what the film shows: {', '.join(LABELS)}"
    elif label != screening.label and not why:
        faults["why"] = "say why the model is wrong: others learn from it"
    if len(why) > LONGEST_WHY:
        faults["why"] = f"use at most {LONGEST_WHY} characters"
    if len(patient) > LONGEST_PATIENT:
        faults["patient"] = f"use at most {LONGEST_PATIENT} characters"
    return faults


def _patient_key(screening: Screening, patient: str, signing_key: str) -> str:
    """A name for the patient that tells nothing of the clinic's own to who lacks the secret."""
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
    holds = _holding(Review.screening_id.in_(ids))
    query = select(holds.c.screening_id, holds.c.label)
    return {row.screening_id: row.label for row in session.execute(query)}


def count_reviewed(session: Session) -> int:
    """How many films have a review."""
    return session.scalar(select(func.count(Review.screening_id.distinct()))) or 0


def _holding(*which: ColumnElement[bool]) -> Subquery:
    """The newest review of each screening, among those reviews for which all of `which` holds."""
    newest_first = func.row_number().over(
        partition_by=Review.screening_id, order_by=(Review.created_at.desc(), Review.id.desc())
    )
    ranked = select(Review.__table__, newest_first.label("rank")).where(*which).subquery()
    return select(ranked).where(ranked.c.rank == 1).subquery()


def write_corrections(session: Session, storage: Storage, folder: Path) -> int:
    """Write all reviewed films as a data set, each with the label that holds.

    A clinic is called by a hash, a patient by the key of the review or, where nobody said who it
    is, by the screening. The reviewers' own words stay here: they may tell of the patient.

    Args:
        session: the database.
        storage: where the films are.
        folder: the data set's folder to be.

    Returns:
        How many films were written; where it is none, there is no data set.
    """
    holds = _holding()
    query = select(Screening, holds.c.id, holds.c.label, holds.c.patient_key).join(
        holds, holds.c.screening_id == Screening.id
    )
    # One film's answer holds three maps: not all of them at once.
    reviewed = session.execute(query.order_by(Screening.id).execution_options(yield_per=100))
    rows = []
    for screening, review_id, label, patient_key in reviewed:
        row = _row(screening, review_id, label, patient_key)
        if _written(storage, screening.id, folder / row["image"]):
            rows.append(row)
    if rows:
        with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return len(rows)


def _row(
    screening: Screening, review_id: uuid.UUID, label: str, patient_key: str | None
) -> dict[str, str]:
    """A film's row of the manifest."""
    source, metadata = _source(screening), screening.film_metadata
    said = "confirmed" if label == screening.label else f"corrected from {screening.label}"
    return {
        "image": f"images/{source}/{screening.id}.{_SUFFIXES[screening.film_type]}",
        "label": label,
        "source": source,
        "patient": f"{source}-{patient_key}" if patient_key else f"screening-{screening.id}",
        "view": metadata.get("ViewPosition", ""),
        "sex": clean_sex(metadata.get("PatientSex", "")),
        "age": clean_age(metadata.get("PatientAge", "")),
        "finding": f"{said} by review {review_id}",
        "width": str(screening.film_width),
        "height": str(screening.film_height),
    }


def _source(screening: Screening) -> str:
    # A visitor's id is a credential: of it, too, there is only a hash.
    kind = "clinic" if screening.clinic_id else "visitor"
    whose = str(screening.clinic_id or screening.visitor_id)
    return f"{kind}-{hashlib.sha256(whose.encode()).hexdigest()[:12]}"


def _written(storage: Storage, screening_id: uuid.UUID, image: Path) -> bool:
    """Write a film; False where it was deleted meanwhile, and is nothing to learn from."""
    chunks = storage.stream(film_key(screening_id))
    if chunks is None:
        return False
    image.parent.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.writelines(chunks)
    return True
