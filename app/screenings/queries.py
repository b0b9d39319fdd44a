"""Screenings of one owner, filtered and page by page; which stored images belong to a screening."""

import uuid
from collections.abc import Collection

from sqlalchemy import ColumnElement, delete, false, func, select
from sqlalchemy.orm import Session

from app.accounts.owner import Owner
from app.core.audit import AuditEvent
from app.core.pagination import Page, comes_after, paginate
from app.screenings.filters import ScreeningFilter
from app.screenings.stored_images import screening_of
from app.screenings.tables import Screening

PAGE_SIZE = 24
_EVERYTHING = ScreeningFilter()


def screenings_page(
    session: Session,
    owner: Owner,
    cursor: str | None = None,
    size: int = PAGE_SIZE,
    *,
    chosen: ScreeningFilter = _EVERYTHING,
) -> Page[Screening]:
    """One page of the owner's screenings.

    Raises:
        NotFound: the cursor is not valid.
    """
    query = select(Screening).where(*_conditions(owner, chosen))
    order = chosen.order
    return paginate(session, query, order.columns, cursor, size, ascending=order.is_ascending)


def count_screenings(session: Session, owner: Owner, chosen: ScreeningFilter = _EVERYTHING) -> int:
    """Number of the owner's screenings."""
    query = select(func.count()).select_from(Screening).where(*_conditions(owner, chosen))
    return session.scalar(query) or 0


def neighbour_ids(
    session: Session, owner: Owner, row: Screening, chosen: ScreeningFilter
) -> tuple[uuid.UUID | None, uuid.UUID | None]:
    """The screenings before and after one in the filtered list."""
    columns, is_ascending = chosen.order.columns, chosen.order.is_ascending
    key = [getattr(row, column.key) for column in columns]
    query = select(Screening.id).where(*_conditions(owner, chosen)).limit(1)

    def nearest(*, ascending: bool) -> uuid.UUID | None:
        order = [column.asc() if ascending else column.desc() for column in columns]
        follows = comes_after(columns, key, ascending=ascending)
        return session.scalar(query.where(follows).order_by(*order))

    return nearest(ascending=not is_ascending), nearest(ascending=is_ascending)


def owned_ids(session: Session, ids: Collection[uuid.UUID], owner: Owner) -> list[uuid.UUID]:
    """Those of the screenings that are the owner's."""
    return list(session.scalars(select(Screening.id).where(*_among(ids, owner))))


def owned_screenings(session: Session, ids: Collection[uuid.UUID], owner: Owner) -> list[Screening]:
    """Those of the screenings that are the owner's, newest first."""
    query = select(Screening).where(*_among(ids, owner))
    return list(session.scalars(query.order_by(Screening.created_at.desc(), Screening.id)))


def with_reference(
    session: Session, owner: Owner, row: Screening, most: int = 12
) -> list[Screening]:
    """Other screenings of the owner with the same reference, newest first; none without one."""
    if not row.reference:
        return []
    query = select(Screening).where(
        _owned_by(owner), Screening.reference == row.reference, Screening.id != row.id
    )
    newest = query.order_by(Screening.created_at.desc(), Screening.id).limit(most)
    return list(session.scalars(newest))


def delete_rows(session: Session, ids: Collection[uuid.UUID], owner: Owner) -> list[uuid.UUID]:
    """Delete those of the screenings that are the owner's, with an audit entry each, and commit.

    Returns:
        The ids of those that were there.
    """
    gone = delete(Screening).where(*_among(ids, owner)).returning(Screening.id)
    deleted = list(session.scalars(gone))
    session.add_all(
        AuditEvent(actor=owner.actor, action="screening.deleted", subject=str(one))
        for one in deleted
    )
    session.commit()
    return deleted


def _among(ids: Collection[uuid.UUID], owner: Owner) -> tuple[ColumnElement[bool], ...]:
    return _owned_by(owner), Screening.id.in_(ids)


def _conditions(owner: Owner, chosen: ScreeningFilter) -> list[ColumnElement[bool]]:
    return [_owned_by(owner), *chosen.conditions()]


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
