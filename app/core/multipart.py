"""Fields of a form of ours, up to a size: the usual reader has no end for long ones."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final
from urllib.parse import parse_qs

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.core.errors import BadUpload, UploadTooLarge


async def read_fields(request: Request, most_bytes: int) -> dict[str, list[str]]:
    """The fields of a form that a page sends without files.

    Raises:
        UploadTooLarge: noticed while reading.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise UploadTooLarge("the form holds more than can be read: choose fewer images")
    return parse_qs(body.decode("ascii", "replace"))


# The rest of a refused upload is read and thrown away, since a browser shows an answer only after
# it has sent its request; but not for ever.
DRAIN_FACTOR: Final = 4
_DRAIN_SECONDS: Final = 10.0


def require_plain_multipart(content_type: str, field: str) -> None:
    """Refuse other forms, and text encodings, with which a sender could choose slow decoders."""
    kind, parameters = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise BadUpload(
            f"expected a multipart form with the field {field!r}: "
            f"send it as curl -F {field}=@FILE does"
        )
    if parameters.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"us-ascii"):
        raise BadUpload("the form's text has another encoding than UTF-8")


async def drain(stream: AsyncGenerator[bytes], most: int) -> None:
    """Read the rest of a refused request, up to so many bytes and for some seconds."""
    received = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for chunk in stream:
                received += len(chunk)
                if received > most:
                    return
    except (ClientDisconnect, TimeoutError):
        return
