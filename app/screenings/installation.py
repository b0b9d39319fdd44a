"""The database and the storage of images belong together: both carry the same id.

A server with another database would take every stored image for one without a screening, and one
with another storage would show none. So neither starts.
"""

import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.database import Database, insert_unless_there, now
from app.core.storage import Storage
from app.screenings.queries import known_keys
from app.screenings.stored_images import STORED_IMAGES, image_key
from app.screenings.tables import Installation, Screening
from ml.errors import XrayError

STORAGE_ID = "installation-id"
_ROW = 1
_SCREENINGS_SAMPLED = 100
_WHAT_TO_DO = (
    "Check XRAY_HOME, XRAY_DATABASE_URL and XRAY_STORAGE_URL. If you moved or replaced one of them "
    "on purpose, run: xray storage adopt"
)


class StorageMismatch(XrayError):
    """The database and the storage belong to two different installations."""


def require_one_installation(database: Database, storage: Storage) -> None:
    """Check that database and storage carry the same id; the first start gives them one.

    Where one of them carries none yet, as after an upgrade from 0.1.0, their content decides.

    Raises:
        StorageMismatch: they do not belong together; nothing was changed.
    """
    stored, recorded = _stored_id(storage), _recorded_id(database)
    if stored is None or recorded is None:
        _require_same_content(database, storage)
        _give_id(database, storage, stored or recorded or uuid.uuid4())
        # Another server may have been first.
        stored, recorded = _stored_id(storage), _recorded_id(database)
    if stored != recorded:
        raise StorageMismatch(
            f"The database belongs to the image storage {recorded}, but this storage is {stored}. "
            f"{_WHAT_TO_DO}"
        )


def adopt_storage(database: Database, storage: Storage, *, by: str) -> uuid.UUID:
    """Make a database and a storage belong together from now on, whatever they hold.

    Returns:
        The id that both carry.
    """
    adopted = _stored_id(storage) or uuid.uuid4()
    storage.put_unless_there(STORAGE_ID, str(adopted).encode())
    with database.session() as session:
        row = session.get(Installation, _ROW)
        before = row.id if row else None
        session.merge(Installation(number=_ROW, id=adopted, created_at=now()))
        detail = {"before": str(before) if before else None}
        session.add(
            AuditEvent(actor=by, action="storage.adopted", subject=str(adopted), detail=detail)
        )
    return adopted


def describe_match(database: Database, storage: Storage) -> str:
    """How well the content of a storage fits a database, for a person to decide."""
    stored, known = _sample_storage(database, storage)
    with database.sessions() as session:
        recorded, missing = _sample_screenings(session, storage)
    return (
        f"{known} of {stored} stored images looked at belong to a screening; "
        f"{recorded - missing} of {recorded} screenings looked at have their image."
    )


def _require_same_content(database: Database, storage: Storage) -> None:
    stored, known = _sample_storage(database, storage)
    with database.sessions() as session:
        recorded, missing = _sample_screenings(session, storage)
    if 2 * known < stored:
        raise StorageMismatch(
            f"{stored - known} of {stored} images in the storage belong to no screening of this "
            f"database: it is not the database of these images. {_WHAT_TO_DO}"
        )
    if 2 * missing > recorded:
        raise StorageMismatch(
            f"The images of {missing} of the newest {recorded} screenings are not in the storage: "
            f"it is not the storage of this database, or is not mounted. {_WHAT_TO_DO}"
        )


def _sample_storage(database: Database, storage: Storage) -> tuple[int, int]:
    """How many stored images the first page of the listing has, and how many are known."""
    for page in storage.pages(STORED_IMAGES):
        with database.sessions() as session:
            return len(page), len(known_keys(session, [entry.key for entry in page]))
    return 0, 0


def _sample_screenings(session: Session, storage: Storage) -> tuple[int, int]:
    """How many of the newest screenings were looked at, and how many have no image."""
    newest = select(Screening.id).order_by(Screening.created_at.desc()).limit(_SCREENINGS_SAMPLED)
    ids = session.scalars(newest).all()
    return len(ids), sum(not storage.contains(image_key(screening)) for screening in ids)


def _give_id(database: Database, storage: Storage, id: uuid.UUID) -> None:
    storage.put_unless_there(STORAGE_ID, str(id).encode())
    with database.session() as session:
        insert_unless_there(
            session, Installation(number=_ROW, id=_stored_id(storage) or id, created_at=now())
        )


def _stored_id(storage: Storage) -> uuid.UUID | None:
    found = storage.get(STORAGE_ID)
    if found is None:
        return None
    try:
        return uuid.UUID(found.decode("ascii").strip())
    except ValueError as problem:
        raise StorageMismatch(
            f"The object {STORAGE_ID} in the image storage holds no id. Restore it from a backup, "
            "or delete it and run: xray storage adopt"
        ) from problem


def _recorded_id(database: Database) -> uuid.UUID | None:
    with database.sessions() as session:
        return session.scalar(select(Installation.id).where(Installation.number == _ROW))
