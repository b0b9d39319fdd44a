"""Screenings as lists show them, and what a list says of the last action."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query
from sqlalchemy.orm import Session

from app.accounts.tables import User
from app.screenings.reviews import hidden_reviews, reviewed_labels
from app.screenings.tables import Screening
from app.screenings.thresholds import thresholds_of
from app.screenings.views import ScreeningSummary

Count = Annotated[int, Query(ge=0, le=10_000)]


@dataclass(frozen=True, slots=True)
class ListState:
    """What the address of the list says besides its filter.

    Attributes:
        before: the cursor of the page.
        selected: "all" where the boxes of the page are ticked.
        deleted: screenings that were just deleted.
        marked: screenings that were just reviewed.
        missing: selected screenings that were not there any more.
    """

    before: Annotated[str | None, Query(max_length=100)] = None
    selected: Annotated[str, Query(max_length=10)] = ""
    deleted: Count = 0
    marked: Count = 0
    missing: Count = 0


def summaries(
    opened: Session, rows: Sequence[Screening], user: User | None, query: str = ""
) -> list[ScreeningSummary]:
    """Rows of a list.

    Args:
        opened: the database.
        rows: the screenings.
        user: who looks; a review that they must not know yet is left out.
        query: the filter of the list, which their links keep.
    """
    ids = [row.id for row in rows]
    thresholds = thresholds_of(opened, rows)
    reviewed = reviewed_labels(opened, ids)
    hidden = hidden_reviews(opened, ids, user) if user else set()
    return [
        ScreeningSummary.of(
            row,
            thresholds[row.id],
            reviewed.get(row.id),
            hidden=row.id in hidden,
            query=query,
        )
        for row in rows
    ]
