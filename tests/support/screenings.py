"""Recorded screenings without the work of screening an image."""

import uuid

from app.core.database import Database
from app.core.storage import Storage
from app.registry.tables import ModelVersion
from app.screenings.stored_images import image_key, thumbnail_key
from app.screenings.tables import Screening

_MODEL = "0" * 64


def record_screenings(database: Database, storage: Storage, count: int) -> list[uuid.UUID]:
    """Store images and rows of some screenings; their ids."""
    ids = [uuid.uuid4() for _ in range(count)]
    for screening in ids:
        storage.put(image_key(screening), screening.bytes)
        storage.put(thumbnail_key(screening), screening.bytes)
    with database.session() as session:
        if session.get(ModelVersion, _MODEL) is None:
            session.add(ModelVersion(sha256=_MODEL, version="test", card={}))
            session.flush()
        session.add_all(screening_row(each, visitor_id="somebody") for each in ids)
    return ids


def screening_row(id: uuid.UUID, **changed: object) -> Screening:
    """The row of a screening of a PNG image that is called normal, with some fields changed."""
    fields: dict[str, object] = {
        "image_sha256": "0" * 64,
        "image_type": "image/png",
        "image_format": "PNG",
        "image_width": 1,
        "image_height": 1,
        "image_bits": 8,
        "image_metadata": {},
        "model_sha256": _MODEL,
        "model_version": "test",
        "label": "normal",
        "decision": "normal",
        "probabilities": {},
        "ood_score": 0.0,
        "activation_map": [],
        "timings": {},
    }
    return Screening(id=id, **fields | changed)
