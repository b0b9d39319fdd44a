"""Cursor pages: every row once, in order, and no foreign cursor."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from app.core.database import UtcDateTime
from app.core.errors import NotFound
from app.core.pagination import paginate, paginate_merged


class Base(DeclarativeBase):
    """Of this test's table alone."""


class Row(Base):
    """A row with a time that others share."""

    __tablename__ = "row"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


COLUMNS = (Row.at, Row.id)


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with Session(engine) as opened:
        opened.add_all(
            Row(id=number, at=start + timedelta(hours=number // 3)) for number in range(10)
        )
        opened.flush()
        yield opened
    engine.dispose()


@pytest.mark.parametrize("size", [1, 3, 9, 10, 11])
def test_pages_hold_every_row_once_newest_first(session: Session, size: int) -> None:
    found: list[int] = []
    cursor: str | None = None
    while not found or cursor:
        page = paginate(session, select(Row), COLUMNS, cursor, size)
        assert len(page.rows) <= size
        found += [row.id for row in page.rows]
        cursor = page.next_cursor
    assert found == list(range(9, -1, -1))


def test_pages_of_several_queries_are_merged(session: Session) -> None:
    odd, even = (select(Row).where(Row.id % 2 == rest) for rest in (1, 0))
    first = paginate_merged(session, [odd, even], (Row.id,), None, 7)
    rest = paginate_merged(session, [odd, even], (Row.id,), first.next_cursor, 7)
    assert [row.id for row in first.rows + rest.rows] == list(range(9, -1, -1))
    assert rest.next_cursor is None


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    ["", "nonsense", "ä", encoded("1"), encoded("2026-01-01T00:00:00.0|x"), encoded("1|2|3")],
)
def test_foreign_cursor_is_not_found(session: Session, cursor: str) -> None:
    with pytest.raises(NotFound, match="Go back to the first page"):
        paginate(session, select(Row), COLUMNS, cursor, 3)


@pytest.mark.parametrize("key", ["-1", str(2**31), "9" * 4000, "1.5"])
def test_cursor_with_an_impossible_number_is_not_found(session: Session, key: str) -> None:
    with pytest.raises(NotFound):
        paginate(session, select(Row), (Row.id,), encoded(key), 3)
