"""Receiving an archive of images: streamed to the disk, within limits of size, room and
patience.
"""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from starlette.requests import ClientDisconnect, Request

from app.core.errors import AppError, InvalidUpload, StorageFull, UploadTooLarge, UploadTooSlow
from app.core.multipart import (
    FormLimits,
    LimitedMultipartParser,
    drain,
    require_plain_multipart,
)
from ml.texts import Number, msg

FIELD: Final = "archive"
_MOST_FIELDS: Final = 20
_MOST_FIELD_BYTES: Final = 64 * 1024
_ENVELOPE_BYTES: Final = (_MOST_FIELDS + 1) * _MOST_FIELD_BYTES
# How often the room on the disk is looked at while the archive arrives.
_ROOM_EVERY_BYTES: Final = 64_000_000
# Beside the archive there has to be room for what is in it.
_ROOM_FACTOR: Final = 2
_DRAIN_BYTES: Final = 256_000_000


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What a sender of archives may ask for.

    Attributes:
        max_bytes: size of the largest archive accepted.
        min_free_bytes: room that stays on the disk.
        stall_s: seconds without a byte after which the sender is given up.
    """

    max_bytes: int
    min_free_bytes: int
    stall_s: float


@dataclass(slots=True)
class ArchiveForm:
    """A form that may bring an archive.

    Attributes:
        fields: its texts by name.
        archive: where the archive lies; None where none was chosen.
        refusal: why the form was not read.
        kept: whether somebody needs the archive after the request.
    """

    fields: dict[str, str] = field(default_factory=dict)
    archive: Path | None = None
    refusal: AppError | None = None
    kept: bool = False


async def read_archive_form(request: Request, folder: Path, limits: ArchiveLimits) -> ArchiveForm:
    """Read a multipart form; a file in the field `archive` goes to `folder` as it arrives.

    Args:
        request: not read yet.
        folder: an empty one, for this form alone.
        limits: what is refused.

    Raises:
        UploadTooLarge: noticed while streaming.
        StorageFull: there is too little room, or it is getting too little.
        UploadTooSlow: nothing arrived for a while.
        InvalidUpload: no multipart form, or it broke off.
    """
    stream = request.stream()
    content_type = request.headers.get("content-type", "")
    try:
        require_plain_multipart(content_type, FIELD)
        length = int(request.headers.get("content-length") or 0)
        _require_size(length, limits)
        _require_room(folder, length * _ROOM_FACTOR, limits)
        form = await _ArchiveParser(folder).parse(content_type, _bounded(stream, folder, limits))
    except ClientDisconnect as problem:
        raise InvalidUpload(msg("The upload was interrupted. Send the archive again.")) from problem
    except UploadTooSlow:
        raise
    except AppError:
        await drain(stream, _DRAIN_BYTES)
        raise
    for _, file in form.files:
        await file.close()
    # A browser sends an empty nameless file where none was chosen.
    chosen = any(file.filename or file.size for _, file in form.files)
    return ArchiveForm(form.fields, _archive_path(folder) if chosen else None)


def _archive_path(folder: Path) -> Path:
    # Never the name that the sender gave.
    return folder / "archive"


class _ArchiveParser(LimitedMultipartParser):
    """Writes the archive to its place at once: a temporary folder may have too little room."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FormLimits(max_files=1, max_field_bytes=_MOST_FIELD_BYTES))
        self._archive = _archive_path(folder)

    def open_file(self, field: str) -> BinaryIO:
        if field != FIELD:
            raise InvalidUpload(
                msg(
                    'The file came in the field "%(field)s". Send the archive in the field '
                    '"%(field2)s".',
                    field=field,
                    field2=FIELD,
                )
            )
        return self._archive.open("wb")


async def _bounded(
    stream: AsyncGenerator[bytes], folder: Path, limits: ArchiveLimits
) -> AsyncGenerator[bytes]:
    received = looked_at = 0
    while True:
        try:
            async with asyncio.timeout(limits.stall_s):
                chunk = await anext(stream, None)
        except TimeoutError as problem:
            raise UploadTooSlow(
                msg(
                    "Nothing arrived for %(stall_s)s seconds. Try again.",
                    stall_s=Number(limits.stall_s),
                )
            ) from problem
        if chunk is None:
            return
        received += len(chunk)
        _require_size(received, limits)
        if received - looked_at > _ROOM_EVERY_BYTES:
            _require_room(folder, 0, limits)
            looked_at = received
        yield chunk


def _require_size(count: int, limits: ArchiveLimits) -> None:
    if count > limits.max_bytes + _ENVELOPE_BYTES:
        raise UploadTooLarge(
            msg(
                "An archive may have at most %(max_bytes)s MB. Copy it to the server and "
                "import the folder there, or raise XRAY_MAX_ARCHIVE_MB.",
                max_bytes=limits.max_bytes // 1000000,
            )
        )


def _require_room(folder: Path, needed: int, limits: ArchiveLimits) -> None:
    if shutil.disk_usage(folder).free - needed < limits.min_free_bytes:
        raise StorageFull(
            msg(
                "The server's disk has too little room for the archive and its content. Free "
                "some space first."
            )
        )
