"""Periods of whole days in UTC, as filters in an address give them."""

from datetime import UTC, datetime, time, timedelta

from sqlalchemy import ColumnElement
from sqlalchemy.orm import InstrumentedAttribute


def start_of_day(day: str) -> datetime:
    """The first moment of a day such as 2026-11-22, in UTC.

    Raises:
        ValueError: it is no such day.
    """
    return datetime.combine(datetime.strptime(day, "%Y-%m-%d").date(), time(), UTC)


def within_days(
    moment: InstrumentedAttribute[datetime], since: str, until: str
) -> list[ColumnElement[bool]]:
    """The conditions of lying in a period.

    Args:
        moment: the column.
        since: the first day; empty: from the beginning.
        until: the last day, included; empty: to the end.
    """
    conditions = []
    if since:
        conditions.append(moment >= start_of_day(since))
    if until:
        conditions.append(moment < start_of_day(until) + timedelta(days=1))
    return conditions
