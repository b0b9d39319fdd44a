"""Keyset pagination: a cursor holds the sort key of the last row of a page.

Pages follow keys, not offsets, so rows inserted meanwhile neither repeat nor hide others.
"""

import base64
import binascii
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.core.errors import NotFound
from ml.texts import msg

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%f"
_SEPARATOR = "|"
# What PostgreSQL holds in an INTEGER; a larger number is no key of ours.
_LARGEST_INTEGER = 2**31 - 1
Row = TypeVar("Row")
Columns = Sequence[InstrumentedAttribute[Any]]


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows of one page.

    Attributes:
        rows: newest first.
        next_cursor: where the next page begins; None on the last page.
    """

    rows: list[Row]
    next_cursor: str | None


def paginate(
    session: Session,
    query: Select[Row],
    columns: Columns,
    cursor: str | None,
    size: int,
    *,
    ascending: bool = False,
) -> Page[Row]:
    """One page of a query, in descending order unless `ascending`.

    Args:
        session: the database.
        query: without ORDER BY.
        columns: the sort key, unique as a whole and of the rows' own table.
        cursor: `next_cursor` of the page before; None for the first page.
        size: most rows of a page.
        ascending: the least key first.

    Raises:
        NotFound: the cursor was not made by `paginate` with these columns.
    """
    return paginate_merged(session, [query], columns, cursor, size, ascending=ascending)


def paginate_merged(
    session: Session,
    queries: Sequence[Select[Row]],
    columns: Columns,
    cursor: str | None,
    size: int,
    *,
    ascending: bool = False,
) -> Page[Row]:
    """One page of several queries together, each of which an index returns in order.

    The arguments and errors are those of `paginate`; no row may be found by two queries.
    """
    found = [
        row
        for query in queries
        for row in session.scalars(
            page_query(query, columns, cursor, size + 1, ascending=ascending)
        )
    ]
    if len(queries) > 1:
        found.sort(key=lambda row: _key(row, columns), reverse=not ascending)
    if len(found) <= size:
        return Page(found, None)
    return Page(found[:size], cursor_after(found[size - 1], columns))


def cursor_after(row: object, columns: Columns) -> str:
    """The cursor of the page that begins after a row."""
    return _encode(_key(row, columns))


def page_query(
    query: Select[Row],
    columns: Columns,
    cursor: str | None,
    limit: int,
    *,
    ascending: bool = False,
) -> Select[Row]:
    """The query of the rows after a cursor, in order."""
    if cursor is not None:
        query = query.where(comes_after(columns, _decode(cursor, columns), ascending=ascending))
    order = [column.asc() if ascending else column.desc() for column in columns]
    return query.order_by(*order).limit(limit)


def comes_after(columns: Columns, key: Sequence[Any], *, ascending: bool) -> ColumnElement[bool]:
    """Whether a row comes after a key, in descending order unless `ascending`.

    As one comparison of rows, an index on the columns leads straight to the key. Alternatives
    joined by OR would be tried on all rows before it, page after page more of them.
    """
    row = tuple_(*columns)
    values = tuple_(*(literal(v, c.type) for c, v in zip(columns, key, strict=True)))
    follows: ColumnElement[bool] = row > values if ascending else row < values
    return follows


def _key(row: object, columns: Columns) -> list[Any]:
    return [getattr(row, column.key) for column in columns]


def _encode(key: Sequence[Any]) -> str:
    text = _SEPARATOR.join(map(_text, key))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime(_TIME_FORMAT)
    return str(value)


def _decode(cursor: str, columns: Columns) -> list[Any]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        texts = base64.urlsafe_b64decode(padded).decode().split(_SEPARATOR)
        return [
            _value(text, column.type.python_type)
            for text, column in zip(texts, columns, strict=True)
        ]
    except (binascii.Error, ValueError) as problem:
        raise NotFound(msg("This page does not exist. Go back to the first page.")) from problem


def _value(text: str, kind: type) -> Any:
    if kind is datetime:
        # A cursor holds UTC and no zone, so no other zone can be given.
        return datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
    if kind is int:
        number = int(text)
        if not 0 <= number <= _LARGEST_INTEGER:
            raise ValueError(f"Expected the number of a row, got {text}.")
        return number
    if kind is float:
        share = float(text)
        if not math.isfinite(share):
            raise ValueError(f"Expected a finite number, got {text}.")
        return share
    return uuid.UUID(text)
