"""Fields of a form of ours, up to a size: the usual reader has no end for long ones."""

from urllib.parse import parse_qs

from starlette.requests import Request

from app.errors import UploadTooLarge


async def read_fields(request: Request, most_bytes: int) -> dict[str, list[str]]:
    """The fields of a form that a page sends without files.

    Raises:
        UploadTooLarge: noticed while reading.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise UploadTooLarge("the form holds more than can be read: choose fewer films")
    return parse_qs(body.decode("ascii", "replace"))
