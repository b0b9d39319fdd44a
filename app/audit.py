"""Reading the audit log: newest first, page by page."""

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from app.history import Cursor
from app.models import AuditEvent

PAGE = 50


def one_page(
    session: Session, about: str, before: str | None
) -> tuple[list[AuditEvent], str | None]:
    """One page of events and the cursor of the next; None where it is the last.

    Args:
        session: the database.
        about: an actor, an action or a subject, whole; empty for all events.
        before: the cursor of a page.

    Raises:
        NotFound: not a cursor of ours.
    """
    query = select(AuditEvent).order_by(AuditEvent.at.desc(), AuditEvent.id.desc())
    if about:
        columns = (AuditEvent.actor, AuditEvent.action, AuditEvent.subject)
        query = query.where(or_(*(column == about for column in columns)))
    if before:
        last = Cursor.decode(before)
        older = and_(AuditEvent.at == last.created_at, AuditEvent.id < last.id)
        query = query.where(or_(AuditEvent.at < last.created_at, older))
    events = list(session.scalars(query.limit(PAGE + 1)))
    if len(events) <= PAGE:
        return events, None
    last_shown = events[PAGE - 1]
    return events[:PAGE], Cursor(last_shown.at, last_shown.id).encode()
