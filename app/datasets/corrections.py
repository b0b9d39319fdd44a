"""Reviews written out as a data set to train on."""

import hashlib
import uuid
from pathlib import Path

from sqlalchemy import ColumnElement, Subquery, func, select
from sqlalchemy.orm import Session

from app.core.storage import Storage
from app.screenings.stored_images import image_key
from app.screenings.tables import Review, Screening
from ml.data.importers.records import Skipped, clean_age, clean_sex
from ml.data.manifest import COLUMNS, MANIFEST
from ml.data.table_text import csv_text
from ml.imaging.image_warnings import SHOWN_AS_SENT, read_warnings
from ml.labels import NO_CLASS

ORIENTATION = "stored rotated or inverted"
_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg"}


def row_holding(*which: ColumnElement[bool]) -> Subquery:
    """The newest review of each screening, among those reviews for which all of `which` holds."""
    newest_first = func.row_number().over(
        partition_by=Review.screening_id, order_by=(Review.created_at.desc(), Review.id.desc())
    )
    ranked = select(Review.__table__, newest_first.label("rank")).where(*which).subquery()
    return select(ranked).where(ranked.c.rank == 1).subquery()


def write_corrections(
    session: Session, storage: Storage, folder: Path
) -> tuple[int, list[Skipped]]:
    """Write the reviewed images as a data set, each with the label that holds.

    An image whose newest review names none of the classes is left out: it shows something else, or
    cannot be read. So is one that is stored as it was sent, rotated or inverted.

    A clinic is called by a hash, a patient by the key of the review or, where nobody said who it
    is, by the screening. The reviewers' words are left out: they may describe the patient.

    Args:
        session: the database.
        storage: where the images are.
        folder: the data set's folder to be.

    Returns:
        How many images were written; where it is none, there is no data set. And those that lie
        wrong, each with the reason.
    """
    holds = row_holding()
    query = select(Screening, holds.c.id, holds.c.label, holds.c.patient_key).join(
        holds, holds.c.screening_id == Screening.id
    )
    query = query.where(holds.c.label.not_in(NO_CLASS))
    # One image's answer holds three maps: not all of them at once.
    reviewed = session.execute(query.order_by(Screening.id).execution_options(yield_per=100))
    rows: list[dict[str, str]] = []
    left_out: list[Skipped] = []
    for screening, review_id, label, patient_key in reviewed:
        row = _row(screening, review_id, label, patient_key)
        if fault := _orientation_fault(screening):
            left_out.append(Skipped(Path(row["image"]), ORIENTATION, fault))
            continue
        if _written(storage, screening.id, folder / row["image"]):
            rows.append(row)
    if rows:
        (folder / MANIFEST).write_bytes(csv_text(COLUMNS, rows).encode())
    return len(rows), left_out


def _orientation_fault(screening: Screening) -> str:
    """What is wrong with how the stored image lies; empty where it is upright."""
    warnings = read_warnings(screening.warnings)
    return " ".join(one.text for one in warnings if SHOWN_AS_SENT in one.parameters)


def _row(
    screening: Screening, review_id: uuid.UUID, label: str, patient_key: str | None
) -> dict[str, str]:
    """An image's row of the manifest."""
    source, metadata = _source(screening), screening.image_metadata
    said = "confirmed" if label == screening.label else f"corrected from {screening.label}"
    return {
        "image": f"images/{source}/{screening.id}.{_SUFFIXES[screening.image_type]}",
        "label": label,
        "source": source,
        "patient": f"{source}-{patient_key}" if patient_key else f"screening-{screening.id}",
        "view": metadata.get("ViewPosition", ""),
        "sex": clean_sex(metadata.get("PatientSex", "")),
        "age": clean_age(metadata.get("PatientAge", "")),
        "finding": f"{said} by review {review_id}",
        "width": str(screening.image_width),
        "height": str(screening.image_height),
    }


def _source(screening: Screening) -> str:
    # A visitor's id is a credential: of it, too, there is only a hash.
    kind = "clinic" if screening.clinic_id else "visitor"
    whose = str(screening.clinic_id or screening.visitor_id)
    return f"{kind}-{hashlib.sha256(whose.encode()).hexdigest()[:12]}"


def _written(storage: Storage, screening_id: uuid.UUID, image: Path) -> bool:
    """Write an image; False where it was deleted meanwhile, and is nothing to learn from."""
    chunks = storage.stream(image_key(screening_id))
    if chunks is None:
        return False
    image.parent.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.writelines(chunks)
    return True
