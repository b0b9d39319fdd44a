"""What commands print for programs: rows as JSON."""

import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.core.database import Base

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON with all values.")]


def row_values(row: "Base", *, without: Iterable[str] = ()) -> dict[str, object]:
    """The columns of a row as JSON values.

    Args:
        row: of a table.
        without: names of columns that are left out: secrets, and what is long.
    """
    names = [column.name for column in row.__table__.columns]
    return {name: _json_value(getattr(row, name)) for name in names if name not in set(without)}


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, uuid.UUID) else value


def print_json(values: Mapping[str, object] | Iterable[Mapping[str, object]]) -> None:
    """Print an object, or several as a list."""
    whole = values if isinstance(values, Mapping) else list(values)
    print(json.dumps(whole, indent=2))
