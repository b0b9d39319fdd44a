"""Screenings of one owner, newest first, page by page."""

from sqlalchemy import ColumnElement, and_, false, func, or_, select
from sqlalchemy.orm import Session

from app.accounts.owner import Owner
from app.core.pagination import Cursor
from app.screenings.tables import Screening

PAGE = 24


def newest(
    session: Session, owner: Owner, most: int, after: Cursor | None = None
) -> list[Screening]:
    """The owner's screenings after a cursor, newest first."""
    query = select(Screening).where(_of(owner))
    query = query.order_by(Screening.created_at.desc(), Screening.id.desc())
    if after:
        older = and_(Screening.created_at == after.created_at, Screening.id < after.id)
        query = query.where(or_(Screening.created_at < after.created_at, older))
    return list(session.scalars(query.limit(most)))


def count(session: Session, owner: Owner) -> int:
    """How many screenings the owner has."""
    return session.scalar(select(func.count()).select_from(Screening).where(_of(owner))) or 0


def _of(owner: Owner) -> ColumnElement[bool]:
    if owner.clinic_id:
        return Screening.clinic_id == owner.clinic_id
    # A browser without a cookie has none; compared with NULL it would have every clinic's.
    return Screening.visitor_id == owner.visitor_id if owner.visitor_id else false()


def one_page(
    session: Session, owner: Owner, before: str | None
) -> tuple[list[Screening], str | None]:
    """One page and the cursor of the next; None where it is the last."""
    after = Cursor.decode(before) if before else None
    rows = newest(session, owner, PAGE + 1, after)
    if len(rows) <= PAGE:
        return rows, None
    last = rows[PAGE - 1]
    return rows[:PAGE], Cursor(last.created_at, last.id).encode()
