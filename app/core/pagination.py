"""Keyset pagination: a cursor marks where the next page begins."""

import base64
import binascii
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from app.core.errors import NotFound

CURSOR_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%f"


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last screening of a page. Pages follow keys, not offsets: new rows shift nothing."""

    created_at: datetime
    id: uuid.UUID

    def encode(self) -> str:
        """As a query parameter."""
        text = f"{self.created_at.astimezone(UTC).strftime(CURSOR_TIME_FORMAT)}|{self.id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        """From a query parameter.

        Raises:
            NotFound: not a cursor of ours.
        """
        try:
            padded = text + "=" * (-len(text) % 4)
            moment, row_id = base64.urlsafe_b64decode(padded).decode().split("|")
            # Cursors hold UTC without saying so: no other zone can be smuggled in.
            return cls(
                datetime.strptime(moment, CURSOR_TIME_FORMAT).replace(tzinfo=UTC), uuid.UUID(row_id)
            )
        except (binascii.Error, ValueError) as problem:
            raise NotFound("there is no such page: go back to the first one") from problem
