"""The child process that decodes uploaded files; started by `app.screenings.decoder`.

It may be killed, crash or run out of memory without harm to the server. It holds no secret: its
environment is empty, and its only input is one image after the other over the socket that is its
standard input. Replies are JSON and raw bytes, nothing that could run code.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from app.core.parent_death import end_when_parent_ends
from app.screenings.decoder_protocol import READY, REQUEST, Reply
from ml.imaging.corrections import Orientation, corrected
from ml.imaging.decode import read_image
from ml.imaging.decode_budget import require_affordable
from ml.imaging.display import display_image, thumbnail_image
from ml.imaging.preprocessing import BlankImage, standardise
from ml.imaging.types import THUMBNAIL_SIDE, UnreadableImage
from ml.texts import msg

# The decoders open no files; the limit leaves room for the interpreter's own few.
_OPEN_FILES = 32
_PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    """Serve images until the parent closes the socket.

    The arguments are the import path, the parent's process id, and the memory limit above what
    the bare interpreter takes.
    """
    parent, memory = (int(argument) for argument in sys.argv[2:])
    _give_up_privileges(parent)
    # Imported before the limits, so that a ready child has all it needs.
    import ml.imaging.dicom  # noqa: F401

    channel = _take_channel()
    _limit_resources(memory)
    Reply(READY).send(channel)
    while (request := _receive_image(channel)) is not None:
        _decode(*request).send(channel)


def _decode(content: bytes, size: int, correction: Orientation) -> Reply:
    try:
        require_affordable(content)
        # Large enough for the model input and for a sharp thumbnail.
        shortest = max(2 * size, THUMBNAIL_SIDE) if correction.upright else None
        image = read_image(content, shortest=shortest)
        if not correction.upright:
            image = corrected(image, correction)
        model_input = standardise(image.pixels, size)
        display, display_type = display_image(image, content)
        thumbnail = thumbnail_image(image)
    except UnreadableImage as refusal:
        exhausted = isinstance(refusal.__cause__, MemoryError)
        return Reply.refused(refusal.code, refusal.message, restart=exhausted)
    except BlankImage as refusal:
        return Reply.refused("blank", refusal.args[0])
    except MemoryError:
        message = msg("Decoding the image needs too much memory. Export it at its normal size.")
        return Reply.refused("too-large", message, restart=True)
    header = {
        "display_type": display_type,
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "bits": image.bits,
        "metadata": dict(image.metadata),
        "warnings": [warning.as_json() for warning in image.warnings],
    }
    return Reply(header, model_input.tobytes(), display, thumbnail)


def _receive_image(channel: socket.socket) -> tuple[bytes, int, Orientation] | None:
    """The next image, the side of its model input and how to correct it; None at the end."""
    head = _receive(channel, REQUEST.size)
    if head is None:
        return None
    length, size, turns, inverted = REQUEST.unpack(head)
    content = _receive(channel, length)
    correction = Orientation(quarter_turns=turns, inverted=inverted)
    return None if content is None else (content, size, correction)


def _receive(channel: socket.socket, length: int) -> bytes | None:
    content = bytearray(length)
    view = memoryview(content)
    while view:
        received = channel.recv_into(view)
        if received == 0:
            return None
        view = view[received:]
    return bytes(content)


def _give_up_privileges(parent: int) -> None:
    """Be killed with the parent, gain no privileges, and be the first to go without memory."""
    end_when_parent_ends(parent, signal.SIGKILL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # When memory runs out, the kernel kills a decoder before the server.
        Path("/proc/self/oom_score_adj").write_text("1000")


def _take_channel() -> socket.socket:
    """Move the socket away from the standard streams, where a library could write into it."""
    channel = socket.socket(fileno=os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    return channel


def _limit_resources(memory: int) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
    }
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
