"""Removing stored films whose screening was never recorded or is gone.

A film is stored before its row is committed, so a crash between the two leaves a film without a
row, never a row without its film.
"""

from datetime import timedelta

from sqlalchemy import select

from app.core.database import Database, now
from app.core.storage import Storage
from app.screenings.service import film_key, thumbnail_key
from app.screenings.tables import Screening

# A film younger than this may belong to a screening that is being recorded.
GRACE = timedelta(hours=1)


def sweep(database: Database, storage: Storage, grace: timedelta = GRACE) -> int:
    """Delete films that no screening names and that are older than `grace`.

    Returns:
        The number of files removed.
    """
    limit = now() - grace
    old = [entry for entry in storage.entries("films") if entry.modified_at < limit]
    # Read after listing: a screening recorded meanwhile is seen.
    with database.sessions() as session:
        ids = list(session.scalars(select(Screening.id)))
    known = {key(own) for own in ids for key in (film_key, thumbnail_key)}
    orphans = [entry.key for entry in old if entry.key not in known]
    for key in orphans:
        storage.delete(key)
    return len(orphans) + storage.remove_partial(limit)
