"""Reading films from a multipart request, within limits and without holding them in memory."""

import time
from collections.abc import AsyncGenerator
from typing import Final

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from app.errors import AppError, BadUpload, UploadTooLarge

FIELD: Final = "film"
# Boundaries and part headers around the films.
_ENVELOPE_BYTES: Final = 64 * 1024
# A browser shows an answer only after it has sent its request, so the rest of a refused upload is
# read and thrown away; but not for ever.
_DRAIN_FACTOR: Final = 4
_DRAIN_SECONDS: Final = 10.0


async def read_films(request: Request, *, most: int, max_bytes: int) -> list[UploadFile]:
    """Read the `film` fields of a multipart form; anything over 1 MB is spooled to disk.

    Args:
        request: not read yet.
        most: number of films accepted.
        max_bytes: size of the largest film accepted.

    Raises:
        UploadTooLarge: noticed while streaming: the film never lies in memory or on disk.
        BadUpload: not a multipart form, no film in it, or too many.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadUpload(
            f"expected a multipart form with the field {FIELD!r}: "
            f"send it as curl -F {FIELD}=@film.png does"
        )
    allowed = most * max_bytes + _ENVELOPE_BYTES
    stream = request.stream()
    parser = MultiPartParser(
        request.headers, _limited(stream, allowed, max_bytes), max_files=most, max_fields=20
    )
    try:
        form = await parser.parse()
    except UploadTooLarge:
        await _drain(stream, allowed * _DRAIN_FACTOR)
        raise
    except MultiPartException as problem:
        await _drain(stream, allowed * _DRAIN_FACTOR)
        raise BadUpload(f"the form cannot be read: {problem.message}") from problem
    try:
        films = _films(form, max_bytes)
    except AppError:
        await form.close()
        raise
    for _, part in form.multi_items():
        # Other fields are not ours to read; their files are not kept.
        if isinstance(part, UploadFile) and part not in films:
            await part.close()
    return films


def _films(form: FormData, max_bytes: int) -> list[UploadFile]:
    parts = [part for part in form.getlist(FIELD) if isinstance(part, UploadFile)]
    # A browser sends an empty nameless part where no file was chosen.
    films = [part for part in parts if part.filename or part.size]
    if not films:
        raise BadUpload(f"the form has no file in the field {FIELD!r}: choose a film")
    if any((film.size or 0) > max_bytes for film in films):
        raise _too_large(max_bytes)
    return films


async def _limited(
    stream: AsyncGenerator[bytes], allowed: int, max_bytes: int
) -> AsyncGenerator[bytes]:
    received = 0
    async for chunk in stream:
        received += len(chunk)
        if received > allowed:
            raise _too_large(max_bytes)
        yield chunk


async def _drain(stream: AsyncGenerator[bytes], most: int) -> None:
    received, deadline = 0, time.monotonic() + _DRAIN_SECONDS
    try:
        async for chunk in stream:
            received += len(chunk)
            if received > most or time.monotonic() > deadline:
                return
    except ClientDisconnect:
        return


def _too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"a film may have at most {max_bytes // 1_000_000} MB: export it as JPEG or PNG, "
        "or with fewer pixels"
    )
