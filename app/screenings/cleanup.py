"""Removing stored images that belong to no screening: to a trash, and from there after some days.

An image is stored before its row is committed, so a crash in between leaves an image without a row,
never a row without its image. Only such images are removed here, and few at a time: where most
images are unknown, the database is the wrong one.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.core.database import Database, now
from app.core.storage import Entry, Storage
from app.screenings.queries import known_keys
from app.screenings.stored_images import STORED_IMAGES

logger = logging.getLogger(__name__)
# A younger image may belong to a screening that is being recorded.
GRACE = timedelta(hours=1)
TRASH = "trash"
TRASH_DAYS = 7
# Files that one clean-up moves to the trash, and files that it deletes for good.
LARGEST_CLEAN_UP = 1000
_MOMENT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class CleanUp:
    """What one clean-up did, in files.

    Attributes:
        moved: to the trash.
        put_back: out of the trash, because their screening is in the database again.
        deleted: for good: after their days in the trash, and what interrupted writes left.
        unknown: images that belong to no screening, all of them.
        refused: nothing was removed, because most images are unknown.
    """

    moved: int = 0
    put_back: int = 0
    deleted: int = 0
    unknown: int = 0
    refused: bool = False


def remove_orphaned_images(
    database: Database,
    storage: Storage,
    grace: timedelta = GRACE,
    *,
    trash_days: int = TRASH_DAYS,
    force: bool = False,
) -> CleanUp:
    """Move stored images that no screening names to the trash, and empty the trash.

    Args:
        database: of screenings.
        storage: of images; it is read page by page.
        grace: how long an image is left alone.
        trash_days: how long one stays in the trash.
        force: also where most images belong to no screening.
    """
    at = now()
    known, unknown, orphans = 0, 0, list[str]()
    for page, keys in _pages_with_known(database, storage, STORED_IMAGES, at - grace):
        lost = [entry.key for entry in page if entry.key not in keys]
        known, unknown = known + len(page) - len(lost), unknown + len(lost)
        orphans += lost[: LARGEST_CLEAN_UP - len(orphans)]
    if unknown > known and not force:
        logger.error(
            "%d of %d stored images belong to no screening, so none is removed. Check that this is "
            "the database of these images. To remove them: xray storage clean-up --force",
            unknown,
            unknown + known,
        )
        return CleanUp(unknown=unknown, refused=True)
    put_back, expired = _empty_trash(database, storage, at - timedelta(days=trash_days))
    moved = sum(storage.move(key, f"{TRASH}/{at:{_MOMENT}}/{key}") for key in orphans)
    leftovers = storage.remove_leftovers(at - grace)
    return CleanUp(moved, put_back, expired + leftovers, unknown)


def _pages_with_known(
    database: Database, storage: Storage, prefix: str, before: datetime
) -> Iterator[tuple[list[Entry], set[str]]]:
    """Pages of entries older than a moment, each with its keys that a screening names."""
    for page in storage.pages(prefix):
        old = [entry for entry in page if entry.modified_at < before]
        # Asked after listing, so that a screening recorded meanwhile is seen.
        with database.sessions() as session:
            yield old, known_keys(session, [entry.key for entry in old])


def _empty_trash(database: Database, storage: Storage, before: datetime) -> tuple[int, int]:
    """Put back what is known again, and delete what was moved before a moment.

    Returns:
        How many files were put back, and how many deleted.
    """
    put_back, expired = 0, list[str]()
    for page in storage.pages(TRASH):
        keys = {entry.key: entry.key.split("/", 2)[-1] for entry in page}
        with database.sessions() as session:
            known = known_keys(session, list(keys.values()))
        for trashed, key in keys.items():
            if key in known:
                put_back += storage.move(trashed, key)
            elif _moved_at(trashed) < before and len(expired) < LARGEST_CLEAN_UP:
                expired.append(trashed)
    for key in expired:
        storage.delete(key)
    return put_back, len(expired)


def _moved_at(trashed: str) -> datetime:
    """When a file was moved to the trash. One with another name never expires."""
    try:
        return datetime.strptime(trashed.split("/")[1], _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
