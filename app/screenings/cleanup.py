"""Deleting stored images that belong to no screening.

An image is stored before its row is committed, so a crash in between leaves an image without a row,
never a row without its image.
"""

from datetime import timedelta

from sqlalchemy import select

from app.core.database import Database, now
from app.core.storage import Storage
from app.screenings.stored_images import STORED_IMAGES, image_key, thumbnail_key
from app.screenings.tables import Screening

# A younger image may belong to a screening that is being recorded.
GRACE = timedelta(hours=1)


def remove_orphaned_images(database: Database, storage: Storage, grace: timedelta = GRACE) -> int:
    """Delete stored images older than `grace` that no screening names.

    Returns:
        The number of files removed.
    """
    limit = now() - grace
    old = [entry for entry in storage.entries(STORED_IMAGES) if entry.modified_at < limit]
    # Read after listing: a screening recorded meanwhile is seen.
    with database.sessions() as session:
        ids = list(session.scalars(select(Screening.id)))
    known = {key(own) for own in ids for key in (image_key, thumbnail_key)}
    orphans = [entry.key for entry in old if entry.key not in known]
    for key in orphans:
        storage.delete(key)
    return len(orphans) + storage.remove_partial(limit)
