"""Screenings of one owner, newest first; which stored images belong to a screening."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, false, func, select
from sqlalchemy.orm import Session

from app.accounts.owner import Owner
from app.core.pagination import Page, paginate
from app.screenings.stored_images import screening_of
from app.screenings.tables import Screening

PAGE_SIZE = 24


def screenings_page(
    session: Session, owner: Owner, cursor: str | None = None, size: int = PAGE_SIZE
) -> Page[Screening]:
    """One page of the owner's screenings.

    Raises:
        NotFound: the cursor is not valid.
    """
    columns = (Screening.created_at, Screening.id)
    return paginate(session, select(Screening).where(_owned_by(owner)), columns, cursor, size)


def count_screenings(session: Session, owner: Owner) -> int:
    """Number of the owner's screenings."""
    query = select(func.count()).select_from(Screening).where(_owned_by(owner))
    return session.scalar(query) or 0


def _owned_by(owner: Owner) -> ColumnElement[bool]:
    if owner.clinic_id:
        return Screening.clinic_id == owner.clinic_id
    # A browser without a cookie owns nothing; compared with NULL it would own every clinic's.
    return Screening.visitor_id == owner.visitor_id if owner.visitor_id else false()


def known_keys(session: Session, keys: Collection[str]) -> set[str]:
    """Those of at most a few thousand storage keys that belong to a recorded screening."""
    owners = {key: screening for key in keys if (screening := screening_of(key))}
    query = select(Screening.id).where(Screening.id.in_(set(owners.values())))
    recorded = set(session.scalars(query)) if owners else set()
    return {key for key, screening in owners.items() if screening in recorded}
