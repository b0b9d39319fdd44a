"""Reading images from a multipart request: within limits of size, time and number."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from app.core.errors import AppError, BadUpload, Busy, UploadTooLarge, UploadTooSlow
from app.core.multipart import DRAIN_FACTOR, drain, require_plain_multipart

FIELD: Final = "image"
# The limit of a route whose reader knows a better one, as Intake does and the reader of archives.
BOUNDED_BY_READER: Final = 2**50
# Boundaries and part headers around the images.
_ENVELOPE_BYTES: Final = 64 * 1024
# All images of one form together, in images of the largest size.
_LARGEST_FORM: Final = 4


class Intake:
    """Bounds how many forms are read at once, and for how long each."""

    def __init__(self, most: int, seconds: float):
        self._free = asyncio.Semaphore(most)
        self._seconds = seconds

    async def read_images(self, request: Request, *, most: int, max_bytes: int) -> list[UploadFile]:
        """Read the `image` fields of a multipart form; anything over 1 MB is spooled to disk.

        Args:
            request: not read yet.
            most: number of images accepted.
            max_bytes: size of the largest image accepted.

        Raises:
            UploadTooLarge: noticed while streaming; what had arrived is thrown away.
            UploadTooSlow: the form did not arrive in time.
            BadUpload: not a multipart form, no image in it, too many, or broken off.
            Busy: too many forms are being read.
        """
        stream = request.stream()
        try:
            if self._free.locked():
                raise Busy("too many images are being sent at the moment: try again in a second")
            async with self._free, asyncio.timeout(self._seconds):
                return await _read(request, stream, most, max_bytes)
        except TimeoutError as problem:
            raise UploadTooSlow(
                f"the image did not arrive within {self._seconds:.0f} seconds: try again"
            ) from problem
        except ClientDisconnect as problem:
            raise BadUpload("the upload broke off: send the image again") from problem
        except AppError:
            await drain(stream, DRAIN_FACTOR * max_bytes)
            raise


async def _read(
    request: Request, stream: AsyncGenerator[bytes], most: int, max_bytes: int
) -> list[UploadFile]:
    require_plain_multipart(request.headers.get("content-type", ""), FIELD)
    allowed = min(most, _LARGEST_FORM) * max_bytes + _ENVELOPE_BYTES
    if int(request.headers.get("content-length") or 0) > allowed:
        raise _too_large(max_bytes)
    parser = _ImageParser(request, _limited(stream, allowed, max_bytes), most, max_bytes)
    try:
        form = await parser.parse()
    except MultiPartException as problem:
        raise BadUpload(f"the form cannot be read: {problem.message}") from problem
    return await _images(form)


class _ImageParser(MultiPartParser):
    """Counts the bytes of every part as they arrive."""

    def __init__(
        self, request: Request, stream: AsyncGenerator[bytes], most: int, max_bytes: int
    ) -> None:
        super().__init__(request.headers, stream, max_files=most, max_fields=20)
        self._max_bytes = max_bytes
        self._part_bytes = 0

    def on_part_begin(self) -> None:
        self._part_bytes = 0
        super().on_part_begin()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part_bytes += end - start
        if self._part_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        super().on_part_data(data, start, end)


async def _images(form: FormData) -> list[UploadFile]:
    parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    named = form.getlist(FIELD)
    # A browser sends an empty nameless part where no file was chosen.
    images = [part for part in parts if part in named and (part.filename or part.size)]
    for part in parts:
        if part not in images:
            await part.close()
    if not images:
        raise BadUpload(f"the form has no file in the field {FIELD!r}: choose an image")
    return images


async def _limited(
    stream: AsyncGenerator[bytes], allowed: int, max_bytes: int
) -> AsyncGenerator[bytes, Any]:
    received = 0
    async for chunk in stream:
        received += len(chunk)
        if received > allowed:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"an image may have at most {max_bytes // 1_000_000} MB: export it as JPEG or PNG, "
        "or with fewer pixels"
    )
