"""Reading forms within limits of size and number, as they arrive."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast
from urllib.parse import parse_qs

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from app.core.errors import InvalidUpload, UploadTooLarge
from ml.texts import msg, plural

# A file up to this size stays in memory.
SPOOL_BYTES: Final = 1024 * 1024
# The rest of a refused upload is read and thrown away, since a browser shows an answer only after
# it has sent its request; but not without end.
DRAIN_FACTOR: Final = 4
_DRAIN_SECONDS: Final = 10.0


async def read_fields(request: Request, max_bytes: int) -> dict[str, list[str]]:
    """The fields of a URL-encoded form.

    Starlette's own reader accepts 1,000 fields; a selection of images has more.

    Raises:
        UploadTooLarge: the form is larger than `max_bytes`, noticed while reading.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise UploadTooLarge(
                msg(
                    "The form may have at most %(max_bytes)s bytes. Select less.",
                    max_bytes=max_bytes,
                )
            )
    return parse_qs(body.decode("ascii", "replace"))


@dataclass(frozen=True, slots=True)
class FormLimits:
    """What a multipart form may hold.

    Attributes:
        max_files: number of files.
        max_file_bytes: size of each; None where the stream itself is bounded.
        max_fields: number of text fields.
        max_field_bytes: size of each.
    """

    max_files: int
    max_file_bytes: int | None = None
    max_fields: int = 20
    max_field_bytes: int = 64 * 1024


@dataclass(slots=True)
class MultipartForm:
    """A form that was read.

    Attributes:
        fields: texts by field name; of a field that was sent twice the last one.
        files: field name and file, in the order sent.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, UploadFile]] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """The part of the form that is arriving."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    header_name: bytes = b""
    header_value: bytes = b""
    name: str = ""
    file: UploadFile | None = None
    text: bytearray = field(default_factory=bytearray)
    size: int = 0


class LimitedMultipartParser:
    """Parses a multipart form as it arrives; limits hold before anything is stored.

    A subclass chooses where files go (`open_file`) and how a large one is refused
    (`file_too_large`).
    """

    def __init__(self, limits: FormLimits) -> None:
        self.limits = limits
        self._form = MultipartForm()
        self._part = _Part()
        self._fields = 0
        self._opened: list[UploadFile] = []
        self._unwritten: list[tuple[UploadFile, bytes]] = []

    def open_file(self, _field: str) -> BinaryIO:
        """Where a file of the form goes: to memory, and to a temporary file once it is large."""
        return cast("BinaryIO", SpooledTemporaryFile(max_size=SPOOL_BYTES))

    def file_too_large(self) -> UploadTooLarge:
        """The error for a file above the limit."""
        return UploadTooLarge(
            msg(
                "A file may have at most %(max_file_bytes)s bytes.",
                max_file_bytes=self.limits.max_file_bytes or 0,
            )
        )

    async def parse(self, content_type: str, stream: AsyncGenerator[bytes]) -> MultipartForm:
        """Read the whole form; its files are open and at their start.

        Raises:
            InvalidUpload: not a multipart form, or too many files or fields.
            UploadTooLarge: a file above the limit.
        """
        try:
            parser = MultipartParser(_boundary(content_type), self._callbacks())  # type: ignore[arg-type]
            async for chunk in stream:
                parser.write(chunk)
                await self._write_files()
            parser.finalize()
            for _, file in self._form.files:
                await file.seek(0)
        except BaseException as problem:
            await self._close(self._opened)
            if isinstance(problem, FormParserError):
                raise InvalidUpload(
                    msg("The form cannot be read. Send the file again.")
                ) from problem
            raise
        complete = [file for _, file in self._form.files]
        await self._close([file for file in self._opened if file not in complete])
        return self._form

    def _callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_header_name,
            "on_header_value": self._add_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open_part,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
        }

    async def _write_files(self) -> None:
        """Write what arrived; a file on the disk is written in another thread."""
        for file, data in self._unwritten:
            await file.write(data)
        self._unwritten.clear()

    async def _close(self, files: list[UploadFile]) -> None:
        for file in files:
            await file.close()

    def _begin_part(self) -> None:
        self._part = _Part()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def _end_header(self) -> None:
        part = self._part
        part.headers[part.header_name.lower()] = part.header_value
        part.header_name = part.header_value = b""

    def _open_part(self) -> None:
        _, options = parse_options_header(self._part.headers.get(b"content-disposition"))
        if b"name" not in options:
            raise InvalidUpload(msg("The form cannot be read. A part of it has no name."))
        self._part.name = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            self._part.file = self._open_upload(options[b"filename"].decode("utf-8", "replace"))
            return
        self._fields += 1
        if self._fields > self.limits.max_fields:
            raise InvalidUpload(
                msg(
                    "The form has more than %(max_fields)s fields.",
                    max_fields=self.limits.max_fields,
                )
            )

    def _open_upload(self, filename: str) -> UploadFile:
        if len(self._opened) >= self.limits.max_files:
            raise InvalidUpload(
                plural(
                    "The form has more than %(count)s file. Send fewer at once.",
                    "The form has more than %(count)s files. Send fewer at once.",
                    self.limits.max_files,
                )
            )
        file = UploadFile(self.open_file(self._part.name), size=0, filename=filename)
        self._opened.append(file)
        return file

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        part, limits = self._part, self.limits
        part.size += end - start
        if part.file is None:
            if part.size > limits.max_field_bytes:
                raise InvalidUpload(
                    msg(
                        "The field %(name)s is longer than %(max_field_bytes)s bytes.",
                        name=repr(part.name),
                        max_field_bytes=limits.max_field_bytes,
                    )
                )
            part.text += data[start:end]
            return
        if limits.max_file_bytes is not None and part.size > limits.max_file_bytes:
            raise self.file_too_large()
        self._unwritten.append((part.file, data[start:end]))

    def _end_part(self) -> None:
        if self._part.file is None:
            self._form.fields[self._part.name] = self._part.text.decode("utf-8", "replace")
        else:
            self._form.files.append((self._part.name, self._part.file))


def _boundary(content_type: str) -> bytes:
    _, parameters = parse_options_header(content_type)
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise InvalidUpload(msg("The form cannot be read. Its Content-Type names no boundary."))
    return boundary


def require_plain_multipart(content_type: str, field: str) -> None:
    """Refuse other forms, and text encodings, with which a sender could choose slow decoders.

    Raises:
        InvalidUpload: not a multipart form in UTF-8.
    """
    kind, parameters = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise InvalidUpload(
            msg(
                "The request is not a multipart form. Send the file in the field "
                '"%(field)s", as in curl -F %(field)s=@FILE.',
                field=field,
            )
        )
    if parameters.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"us-ascii"):
        raise InvalidUpload(msg("The form is not encoded in UTF-8."))


async def drain(stream: AsyncGenerator[bytes], max_bytes: int) -> None:
    """Read and discard the rest of a refused request, within limits of size and time."""
    received = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for chunk in stream:
                received += len(chunk)
                if received > max_bytes:
                    return
    except (ClientDisconnect, TimeoutError):
        return
