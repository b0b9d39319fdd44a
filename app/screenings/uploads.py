"""Reading images from a multipart request, within limits of size, time and number."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from app.core.errors import AppError, BadUpload, Busy, UploadTooLarge, UploadTooSlow
from app.core.multipart import (
    DRAIN_FACTOR,
    FormLimits,
    LimitedMultipartParser,
    MultipartForm,
    drain,
    require_plain_multipart,
)

FIELD: Final = "image"
# For routes whose reader enforces its own limit, such as `Intake` and the reader of archives.
BOUNDED_BY_READER: Final = 2**50
# Boundaries and part headers around the images.
_ENVELOPE_BYTES: Final = 64 * 1024
# Size limit of a whole form, in images of the largest size.
_LARGEST_FORM: Final = 4


@dataclass(frozen=True, slots=True)
class ImageForm:
    """A form with images.

    Attributes:
        images: in the order sent, one at least.
        fields: texts by name.
    """

    images: list[UploadFile]
    fields: dict[str, str]


class Intake:
    """Limits how many forms are read at once, and how long each may take.

    Args:
        max_forms: forms read at once.
        timeout_s: seconds in which a form has to arrive.
    """

    def __init__(self, max_forms: int, timeout_s: float):
        self._free = asyncio.Semaphore(max_forms)
        self._timeout_s = timeout_s

    async def read_images(self, request: Request, *, most: int, max_bytes: int) -> ImageForm:
        """Read the `image` fields and the texts of a multipart form; over 1 MB is spooled to disk.

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
                raise Busy("Too many images are being uploaded. Try again in a second.")
            async with self._free, asyncio.timeout(self._timeout_s):
                return await _read(request, stream, most, max_bytes)
        except TimeoutError as problem:
            raise UploadTooSlow(
                f"The upload took more than {self._timeout_s:.0f} seconds. Try again."
            ) from problem
        except ClientDisconnect as problem:
            raise BadUpload("The upload was interrupted. Send the image again.") from problem
        except AppError:
            await drain(stream, DRAIN_FACTOR * max_bytes)
            raise


class _ImageParser(LimitedMultipartParser):
    def file_too_large(self) -> UploadTooLarge:
        return _too_large(self.limits.max_file_bytes or 0)


async def _read(
    request: Request, stream: AsyncGenerator[bytes], most: int, max_bytes: int
) -> ImageForm:
    content_type = request.headers.get("content-type", "")
    require_plain_multipart(content_type, FIELD)
    allowed = min(most, _LARGEST_FORM) * max_bytes + _ENVELOPE_BYTES
    if int(request.headers.get("content-length") or 0) > allowed:
        raise _too_large(max_bytes)
    parser = _ImageParser(FormLimits(max_files=most, max_file_bytes=max_bytes))
    return await _images(await parser.parse(content_type, _limited(stream, allowed, max_bytes)))


async def _images(form: MultipartForm) -> ImageForm:
    # A browser sends an empty nameless file where none was chosen.
    sent = [(name, file) for name, file in form.files if file.filename or file.size]
    images = [file for name, file in sent if name == FIELD]
    for _, file in form.files:
        if file not in images:
            await file.close()
    if images:
        return ImageForm(images, form.fields)
    if sent:
        raise BadUpload(
            f'The file came in the field "{sent[0][0]}". Send the file in the field "{FIELD}".'
        )
    raise BadUpload(f'The form has no file in the field "{FIELD}". Choose an image.')


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
        f"An image may have at most {max_bytes // 1_000_000} MB. Export it as JPEG or PNG, "
        "or at a smaller size."
    )
