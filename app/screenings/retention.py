"""Deleting visitors' screenings after their retention time."""

import logging
from datetime import timedelta

from sqlalchemy import delete, select

from app.core.audit import AuditEvent
from app.core.database import Database, now
from app.core.storage import Storage
from app.screenings.stored_images import image_key, thumbnail_key
from app.screenings.tables import Screening

logger = logging.getLogger(__name__)
# Screenings that are deleted at once; the rest is for the next time.
LARGEST_BATCH = 1000


def remove_expired_screenings(
    database: Database, storage: Storage, days: int, at_most: int = LARGEST_BATCH
) -> int:
    """Delete visitors' screenings of more than some days ago, with their images.

    Args:
        database: of screenings.
        storage: of images.
        days: retention time; 0 keeps everything.
        at_most: screenings deleted now.

    Returns:
        The number of deleted screenings.
    """
    if not days:
        return 0
    expired = (
        select(Screening.id)
        .where(
            Screening.visitor_id.is_not(None), Screening.created_at < now() - timedelta(days=days)
        )
        .order_by(Screening.created_at)
        .limit(at_most)
    )
    with database.session() as session:
        ids = session.scalars(expired).all()
        session.execute(delete(Screening).where(Screening.id.in_(ids)))
        session.add_all(
            AuditEvent(actor="server", action="screening.expired", subject=str(one)) for one in ids
        )
    # An image that is left by a crash here goes to the trash with the next clean-up.
    for one in ids:
        storage.delete(image_key(one))
        storage.delete(thumbnail_key(one))
    if ids:
        logger.info("%d visitors' screenings were deleted after %d days", len(ids), days)
    return len(ids)
