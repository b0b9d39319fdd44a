"""Publish, hide and remove images of the gallery."""

from collections.abc import Collection
from enum import StrEnum

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.database import affected_rows
from app.gallery.tables import SyntheticImage, Visibility


class VisibilityChange(StrEnum):
    """What an admin does with images."""

    PUBLISH = "publish"
    HIDE = "hide"
    REMOVE = "remove"


_BECOMES = {
    VisibilityChange.PUBLISH: Visibility.PUBLIC,
    VisibilityChange.HIDE: Visibility.HIDDEN,
    VisibilityChange.REMOVE: Visibility.REMOVED,
}
_ACTIONS = {
    VisibilityChange.PUBLISH: "image.published",
    VisibilityChange.HIDE: "image.hidden",
    VisibilityChange.REMOVE: "image.removed",
}


def change_visibility(
    session: Session, ids: Collection[int], change: VisibilityChange, *, by: str
) -> int:
    """Publish, hide or remove images; what was removed stays so.

    Args:
        session: the database; the change holds when it commits.
        ids: of images of the gallery.
        change: what to do.
        by: the acting user, for the audit log.

    Returns:
        How many images changed.
    """
    becomes = _BECOMES[change]
    changed = affected_rows(
        session,
        update(SyntheticImage)
        .where(
            SyntheticImage.id.in_(ids),
            SyntheticImage.visibility.not_in((becomes, Visibility.REMOVED)),
        )
        .values(visibility=becomes),
    )
    if changed:
        numbers = sorted(ids)
        subject = f"image {numbers[0]}" + (f" to {numbers[-1]}" if len(numbers) > 1 else "")
        detail = {"images": changed, "ids": numbers[:100]}
        session.add(AuditEvent(actor=by, action=_ACTIONS[change], subject=subject, detail=detail))
    return changed


def count_hidden(session: Session) -> int:
    """Number of images that are in the gallery and not public."""
    query = select(func.count()).where(SyntheticImage.visibility == Visibility.HIDDEN)
    return session.scalar(query) or 0
