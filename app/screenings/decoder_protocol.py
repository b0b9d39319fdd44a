"""The messages between the decoder and its child processes: layout, limits and validation.

A child decodes files of strangers and may be taken over by one, so its reply is validated in full
before anything of it is used.
"""

import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ml.imaging.image_warnings import ImageWarning, WarningCode
from ml.imaging.types import MAX_PIXELS, Format, Refusal, UnreadableImage
from ml.texts import Text

# Length of the image, side of the model input, quarter turns and inversion; the image follows.
REQUEST = struct.Struct(">QIB?")
# Lengths of the four sections that follow: header, model input, display image, thumbnail.
REPLY = struct.Struct(">4I")
# Header of the first reply, before any image.
READY = {"ready": True}

_MAX_HEADER = 16 * 2**10
_MAX_TEXT = 500
_MAX_METADATA = 40
_MAX_WARNINGS = 10
# A stripped image is no longer than its file, a rendered one is a PNG of at most 50 megapixels.
_MAX_RENDERED = MAX_PIXELS + 2**22
_MAX_THUMBNAIL = 2**20
_MAGIC = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"}


class InvalidReply(Exception):
    """A reply that no sound child sends."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one image: a JSON header and three sections of raw bytes."""

    header: Mapping[str, Any]
    model_input: bytes = b""
    display: bytes = b""
    thumbnail: bytes = b""

    @classmethod
    def refused(cls, code: str, message: str, *, restart: bool = False) -> "Reply":
        """The reply for an image that cannot be read.

        Args:
            code: a `Refusal` of `ml.imaging.types`.
            message: the reason, for people.
            restart: whether the child should be replaced, as after running out of memory.
        """
        parts = (
            message.parts() if isinstance(message, Text) else {"template": message, "values": {}}
        )
        return cls({"code": code, **parts, "restart": restart})

    @property
    def asks_for_restart(self) -> bool:
        """Whether the child should be replaced."""
        return self.header.get("restart") is True

    def send(self, channel: socket.socket) -> None:
        """Write the reply to a socket."""
        header = json.dumps(dict(self.header)).encode()
        sections = (header, self.model_input, self.display, self.thumbnail)
        lengths = REPLY.pack(*(len(section) for section in sections))
        channel.sendall(b"".join((lengths, *sections)))


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """What the server keeps of an uploaded image.

    Attributes:
        model_input: (size, size) uint8, from `ml.imaging.preprocessing.standardise`.
        display: the picture for the viewer, without metadata of the source.
        display_type: its media type, "image/jpeg" or "image/png".
        thumbnail: a JPEG of at most `ml.imaging.types.THUMBNAIL_SIDE` pixels, for lists.
        width: columns of the original image, upright.
        height: rows of the original image, upright.
        format: "JPEG", "PNG", "TIFF", "WebP" or "DICOM".
        bits: stored grey depth.
        metadata: the allow-listed technical values of `ml.imaging.types.Radiograph`.
        warnings: what has to be said of the image by its header.
    """

    model_input: NDArray[np.uint8]
    display: bytes
    display_type: str
    thumbnail: bytes
    width: int
    height: int
    format: str
    bits: int
    metadata: dict[str, str]
    warnings: tuple[ImageWarning, ...] = ()


def section_lengths(packed: bytes, *, image_bytes: int = 0, size: int = 0) -> tuple[int, ...]:
    """Lengths of a reply's sections, within what the request allows.

    Args:
        packed: the start of the reply, `REPLY.size` bytes.
        image_bytes: length of the image that was sent.
        size: side of the model input that was asked for.

    Raises:
        InvalidReply: a section is too long.
    """
    lengths: tuple[int, ...] = REPLY.unpack(packed)
    display = max(image_bytes, _MAX_RENDERED)
    limits = (_MAX_HEADER, size**2, display, _MAX_THUMBNAIL)
    if any(length > limit for length, limit in zip(lengths, limits, strict=True)):
        raise InvalidReply("a section is too long")
    return lengths


def read_header(content: bytes) -> dict[str, Any]:
    """Parse the header of a reply.

    Raises:
        InvalidReply: it is no JSON object.
    """
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidReply("the header is no JSON") from error
    if not isinstance(header, dict):
        raise InvalidReply("the header is no JSON object")
    return header


def read_reply(reply: Reply, size: int) -> DecodedImage | UnreadableImage:
    """The decoded image, or why there is none.

    Args:
        reply: as received.
        size: side of the model input that was asked for.

    Raises:
        InvalidReply: a value is missing, of the wrong type or outside of its limits.
    """
    try:
        if "code" in reply.header:
            code: Refusal = _one_of(reply.header["code"], get_args(Refusal))
            template, values = reply.header["template"], reply.header["values"]
            return UnreadableImage(Text.read(_text(template), _metadata(values)), code)
        return _decoded_image(reply, size)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidReply(f"a value is not valid: {error}") from error


def _decoded_image(reply: Reply, size: int) -> DecodedImage:
    header = reply.header
    display_type = _one_of(header["display_type"], tuple(_MAGIC))
    if not reply.display.startswith(_MAGIC[display_type]):
        raise ValueError(f"the display image is no {display_type}")
    if not reply.thumbnail.startswith(_MAGIC["image/jpeg"]):
        raise ValueError("the thumbnail is no JPEG")
    return DecodedImage(
        model_input=np.frombuffer(reply.model_input, np.uint8).reshape(size, size),
        display=reply.display,
        display_type=display_type,
        thumbnail=reply.thumbnail,
        width=_integer(header["width"], MAX_PIXELS),
        height=_integer(header["height"], MAX_PIXELS),
        format=_one_of(header["format"], get_args(Format)),
        bits=_integer(header["bits"], 16),
        metadata=_metadata(header["metadata"]),
        warnings=_warnings(header["warnings"]),
    )


def _metadata(values: object) -> dict[str, str]:
    if not isinstance(values, dict) or len(values) > _MAX_METADATA:
        raise ValueError("the metadata is no short table")
    return {_text(key): _text(value) for key, value in values.items()}


def _warnings(values: object) -> tuple[ImageWarning, ...]:
    if not isinstance(values, list) or len(values) > _MAX_WARNINGS:
        raise ValueError("the warnings are no short list")
    return tuple(
        ImageWarning(_one_of(one["code"], get_args(WarningCode)), _metadata(one["parameters"]))
        for one in values
    )


def _one_of(value: object, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise ValueError(f"{value!r} is none of {choices}")
    return value


def _integer(value: object, highest: int) -> int:
    if type(value) is not int or not 1 <= value <= highest:
        raise ValueError(f"{value!r} is no number from 1 to {highest}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise ValueError("a text is too long or not printable")
    return value
