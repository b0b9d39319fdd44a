"""Filters and order of the list of screenings, as they stand in its address."""

from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute

from app.core.days import start_of_day, within_days
from app.core.errors import InvalidForm
from app.screenings.tables import Review, Screening
from ml.classifier.predictor import UNCERTAIN
from ml.texts import msg

LONGEST_REFERENCE = 100
_ORDERS = msg("Use oldest, most-confident or least-confident; without it the newest come first.")


class ReviewState(StrEnum):
    """Whether a screening has a review."""

    ANY = ""
    UNREVIEWED = "unreviewed"
    REVIEWED = "reviewed"


class Order(StrEnum):
    """The order of the list."""

    NEWEST = ""
    OLDEST = "oldest"
    MOST_CONFIDENT = "most-confident"
    LEAST_CONFIDENT = "least-confident"

    @property
    def is_ascending(self) -> bool:
        """Whether the least key comes first."""
        return self in (Order.OLDEST, Order.LEAST_CONFIDENT)

    @property
    def columns(self) -> tuple[InstrumentedAttribute[Any], ...]:
        """The sort key; an index of each owner's screenings has it."""
        by_time = self in (Order.NEWEST, Order.OLDEST)
        return (Screening.created_at if by_time else Screening.confidence, Screening.id)


class ScreeningFilter(BaseModel):
    """Which screenings of an owner, and in which order.

    Attributes:
        decision: a class, "uncertain", or empty for all.
        label: the most likely class, also of what is uncertain; empty for all.
        review: with, without or regardless of a review.
        reference: a part of the reference; capitals do not count.
        since: the first day, UTC, as 2026-11-22; empty: from the beginning.
        until: the last day, UTC, included; empty: to the end.
        order: by time, or by the probability of the most likely class.
    """

    model_config = ConfigDict(frozen=True)

    decision: str = ""
    label: str = ""
    review: ReviewState = ReviewState.ANY
    reference: str = ""
    since: str = ""
    until: str = ""
    order: Order = Order.NEWEST

    @field_validator("since", "until")
    @classmethod
    def _is_day(cls, text: str) -> str:
        if text:
            start_of_day(text)
        return text

    @property
    def is_empty(self) -> bool:
        """Whether it leaves nothing out."""
        return not self.model_dump(exclude={"order"}, exclude_defaults=True)

    def fields(self) -> dict[str, str]:
        """It as the fields of a form; empty ones are left out."""
        values: dict[str, str] = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if value}

    def query(self, **further: object) -> str:
        """It as the query of an address, with further parameters; empty ones are left out."""
        values = {**self.fields(), **further}
        return urlencode({name: value for name, value in values.items() if value})

    def address(self, path: str, **further: object) -> str:
        """A path with this filter."""
        query = self.query(**further)
        return f"{path}?{query}" if query else path

    def conditions(self) -> list[ColumnElement[bool]]:
        """What the rows have to fulfil."""
        found: list[ColumnElement[bool]] = []
        if self.decision:
            found.append(Screening.decision == self.decision)
        if self.label:
            found.append(Screening.label == self.label)
        if self.review is not ReviewState.ANY:
            reviewed = Screening.id.in_(select(Review.screening_id))
            found.append(reviewed if self.review is ReviewState.REVIEWED else ~reviewed)
        if text := self.reference.replace("\0", "").strip():
            found.append(Screening.reference.icontains(text, autoescape=True))
        return [*found, *within_days(Screening.created_at, self.since, self.until)]


def checked_reference(text: str) -> str | None:
    """A reference without needless blanks; None where there is none.

    Raises:
        InvalidForm: it is too long.
    """
    # PostgreSQL takes no NUL in a text.
    text = " ".join(text.replace("\0", "").split())
    if len(text) > LONGEST_REFERENCE:
        raise InvalidForm(
            {
                "reference": msg(
                    "Enter at most %(longest_reference)s characters.",
                    longest_reference=LONGEST_REFERENCE,
                )
            }
        )
    return text or None


def screening_filter(
    decision: Annotated[str, Query(max_length=50, description=f'A class, or "{UNCERTAIN}".')] = "",
    label: Annotated[
        str, Query(max_length=50, description="The most likely class, also of what is uncertain.")
    ] = "",
    review: Annotated[str, Query(max_length=20, description="unreviewed or reviewed.")] = "",
    reference: Annotated[
        str, Query(max_length=LONGEST_REFERENCE, description="A part of the reference.")
    ] = "",
    since: Annotated[str, Query(max_length=10, description="First day, as 2026-11-22.")] = "",
    until: Annotated[str, Query(max_length=10, description="Last day, included.")] = "",
    order: Annotated[str, Query(max_length=20, description=_ORDERS)] = "",
) -> ScreeningFilter:
    """The filter in an address.

    Raises:
        InvalidForm: a value is not one that the list knows.
    """
    given = {
        "decision": decision,
        "label": label,
        "review": review,
        "reference": reference,
        "since": since,
        "until": until,
        "order": order,
    }
    try:
        return ScreeningFilter.model_validate(given)
    except ValidationError as problem:
        names = [str(fault["loc"][0]) for fault in problem.errors()]
        hints = {
            "review": "Use unreviewed or reviewed.",
            "order": _ORDERS,
        }
        raise InvalidForm(
            {name: hints.get(name, msg("Enter a day as 2026-11-22.")) for name in names}
        ) from problem


Filtered = Annotated[ScreeningFilter, Depends(screening_filter)]
