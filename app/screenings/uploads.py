"""Reading images from a multipart request, within limits of number, size, pace and room."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from app.core.admission import Caller, CallerKind, Places
from app.core.errors import AppError, InvalidUpload, UploadTooLarge, UploadTooSlow
from app.core.multipart import (
    DRAIN_FACTOR,
    FormLimits,
    LimitedMultipartParser,
    MultipartForm,
    drain,
    require_plain_multipart,
)
from app.core.spool import Promise, SpoolRoom
from ml.texts import Number, msg

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


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a form has to arrive.

    Attributes:
        timeout_s: seconds for the whole form.
        least_rate: bytes per second, on average over every window.
        window_s: length of a window.
    """

    timeout_s: float
    least_rate: int
    window_s: float = 10.0


class Intake:
    """Receives forms with images, within limits of number, size, pace and room on the disk.

    Args:
        places: how many forms may be in progress.
        pace: how fast each has to arrive.
        spool: where large images are kept until they are screened.
        reserve_bytes: room on that disk that visitors leave to clinics.
    """

    def __init__(
        self, places: Places, pace: Pace, spool: SpoolRoom, *, reserve_bytes: int = 0
    ) -> None:
        self._places = places
        self._pace = pace
        self._spool = spool
        self._reserve_bytes = reserve_bytes

    @asynccontextmanager
    async def images(
        self, request: Request, caller: Caller, *, most: int, max_bytes: int
    ) -> AsyncIterator[ImageForm]:
        """The `image` fields and the texts of a multipart form, open until they are screened.

        Args:
            request: not read yet.
            caller: whose place it takes.
            most: number of images accepted.
            max_bytes: size of the largest image accepted.

        Raises:
            UploadTooLarge: noticed while streaming; what had arrived is thrown away.
            UploadTooSlow: the form did not arrive in time, or too slowly.
            InvalidUpload: not a multipart form, no image in it, too many, or broken off.
            Busy: too many forms are in progress.
            StorageFull: there is no room to receive it.
        """
        stream = request.stream()
        with ExitStack() as held:
            try:
                form = await self._receive(request, stream, held, caller, most, max_bytes)
            except ClientDisconnect as problem:
                raise InvalidUpload(
                    msg("The upload was interrupted. Send the image again.")
                ) from problem
            except UploadTooSlow:
                raise
            except AppError:
                held.close()  # the rest takes no place from anyone
                await drain(stream, DRAIN_FACTOR * max_bytes)
                raise
            try:
                yield form
            finally:
                for image in form.images:
                    await image.close()

    async def _receive(
        self,
        request: Request,
        stream: AsyncGenerator[bytes],
        held: ExitStack,
        caller: Caller,
        most: int,
        max_bytes: int,
    ) -> ImageForm:
        held.enter_context(self._places.taken(caller))
        content_type = request.headers.get("content-type", "")
        require_plain_multipart(content_type, FIELD)
        allowed = min(most, _LARGEST_FORM) * max_bytes + _ENVELOPE_BYTES
        expected = int(request.headers.get("content-length") or allowed)
        if expected > allowed:
            raise _too_large(max_bytes)
        reserve = self._reserve_bytes if caller.kind is CallerKind.VISITOR else 0
        room = held.enter_context(self._spool.promised(expected, leave=reserve))
        parser = _ImageParser(FormLimits(max_files=most, max_file_bytes=max_bytes))
        pieces = _limited(_paced(stream, self._pace), allowed, max_bytes, room)
        try:
            async with asyncio.timeout(self._pace.timeout_s):
                return await _images(await parser.parse(content_type, pieces))
        except TimeoutError as problem:
            raise UploadTooSlow(
                msg(
                    "The upload took more than %(timeout_s)s seconds. Try again.",
                    timeout_s=Number(self._pace.timeout_s),
                )
            ) from problem


class _ImageParser(LimitedMultipartParser):
    def file_too_large(self) -> UploadTooLarge:
        return _too_large(self.limits.max_file_bytes or 0)


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
        raise InvalidUpload(
            msg(
                'The file came in the field "%(sent)s". Send the file in the field "%(field)s".',
                sent=sent[0][0],
                field=FIELD,
            )
        )
    raise InvalidUpload(
        msg('The form has no file in the field "%(field)s". Choose an image.', field=FIELD)
    )


async def _paced(stream: AsyncGenerator[bytes], pace: Pace) -> AsyncGenerator[bytes, Any]:
    """The pieces of a stream, as long as enough of it arrives in every window."""
    clock = asyncio.get_running_loop().time
    least = pace.least_rate * pace.window_s
    end, received = clock() + pace.window_s, 0
    while True:
        try:
            async with asyncio.timeout_at(end):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as problem:
            raise UploadTooSlow(
                msg(
                    "The upload is slower than %(least_rate)s bytes per second. Try again with a "
                    "faster connection, or with a smaller image.",
                    least_rate=pace.least_rate,
                )
            ) from problem
        received += len(piece)
        if received >= least:
            end, received = clock() + pace.window_s, 0
        yield piece


async def _limited(
    stream: AsyncGenerator[bytes], allowed: int, max_bytes: int, room: Promise
) -> AsyncGenerator[bytes, Any]:
    received = 0
    async for chunk in stream:
        received += len(chunk)
        if received > allowed:
            raise _too_large(max_bytes)
        yield chunk
        room.kept(len(chunk))


def _too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(
        msg(
            "An image may have at most %(max_bytes)s MB. Export it as JPEG or PNG, or at "
            "a smaller size.",
            max_bytes=max_bytes // 1000000,
        )
    )
