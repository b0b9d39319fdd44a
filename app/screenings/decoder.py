"""Decode images in child processes: no input may kill or stall the server.

Each child has a bounded amount of memory and time for an image. One that exceeds them, crashes or
answers nonsense is killed and replaced; the image is refused with an `UnreadableImage`.
"""

import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from app.screenings.decoder_protocol import ANSWER, READY, REQUEST, Answer
from ml.imaging.types import MAX_PIXELS, Format, Refusal, UnreadableImage

logger = logging.getLogger(__name__)
DEFAULT_MEMORY = 1536 * 2**20
# Against whatever the decoders leak.
IMAGES_PER_CHILD = 500
# Generous, for a loaded machine; it is well below a second otherwise.
START_TIMEOUT_S = 20.0
# How long a child that hung up may take to end.
_GRACE_S = 1.0
_MAX_HEADER = 16 * 2**10
_MAX_TEXT = 500
_MAX_METADATA = 20
# A stripped image is no longer than its file, a rendered one is a PNG of at most 50 megapixels.
_MAX_RENDERED = MAX_PIXELS + 2**22
_MAX_THUMBNAIL = 2**20
_PICTURE_STARTS = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"}
_ROOT = Path(__file__).parents[2]
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]);"
    "from app.screenings.decoder_process import main; main()"
)
# One thread each: the children are the parallelism.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class DecoderUnavailable(RuntimeError):
    """No child could take the image: all are busy, none starts, or the decoder is closed."""


class _ChildDied(Exception):
    """A child ended, or answered what no sound child answers, which is the end of it as well."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """All that the server keeps of an uploaded image.

    Attributes:
        model_input: (size, size) uint8, as `ml.imaging.preprocessing.standardise` gives it.
        display: the picture for the viewer, free of the source's metadata.
        display_type: its media type, "image/jpeg" or "image/png".
        thumbnail: a JPEG of at most `ml.imaging.types.THUMBNAIL_SIDE` pixels, for lists.
        width: columns of the original image, upright.
        height: rows of the original image, upright.
        format: "JPEG", "PNG", "TIFF", "WebP" or "DICOM".
        bits: stored grey depth.
        metadata: the allow-listed technical values of `ml.imaging.types.Image`.
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


class ImageDecoder:
    """A few child processes that decode images; safe to use from many threads.

    Args:
        workers: number of children, and so of images decoded at the same time.
        timeout_s: time for one image. A caller waits as long again for a free child at most.
        memory_bytes: memory for one image, above what the bare child takes.
    """

    def __init__(
        self,
        workers: int,
        timeout_s: float = 15.0,
        memory_bytes: int = DEFAULT_MEMORY,
    ) -> None:
        if workers < 1:
            raise ValueError(f"expected at least one worker, got {workers}")
        self._timeout_s = timeout_s
        # The kernel kills a child when the thread that started it ends. So one thread, which
        # lives as long as the decoder, starts them all.
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="image-decoder")
        self._slots = [_Slot(self._spawner, memory_bytes) for _ in range(workers)]
        # The last one used comes first: a warm child before one that is still starting.
        self._idle: queue.LifoQueue[_Slot] = queue.LifoQueue()
        for slot in self._slots:
            self._idle.put(slot)
        self._closed = False

    def start(self) -> None:
        """Start the children in the background; otherwise each starts with its first image."""
        for slot in self._slots:
            slot.start()

    def decode(self, content: bytes, size: int) -> DecodedImage:
        """Decode one image in a child, blocking until it is done.

        Args:
            content: the whole file.
            size: side of the model input in pixels: models active one after the other differ.

        Raises:
            UnreadableImage: as `ml.imaging.decode.read_image`; also with the code "too-slow", and
                "damaged" or "too-large" where the file killed the child.
            DecoderUnavailable: no child was free in time, or none could be started.
        """
        slot = self._lease()
        try:
            outcome = self._ask(slot, content, size)
        finally:
            self._idle.put(slot)
        if isinstance(outcome, UnreadableImage):
            raise outcome
        return outcome

    def close(self) -> None:
        """Kill the children; images still being decoded are refused."""
        if self._closed:
            return
        self._closed = True
        self._spawner.shutdown(cancel_futures=True)
        for slot in self._slots:
            slot.kill()
        # Their callers have lost their child by now, and give the slots back at once.
        for _ in self._slots:
            with suppress(queue.Empty):
                self._idle.get(timeout=START_TIMEOUT_S).discard()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _lease(self) -> "_Slot":
        if self._closed:
            raise DecoderUnavailable("the image decoder is closed")
        try:
            return self._idle.get(timeout=self._timeout_s)
        except queue.Empty:
            raise DecoderUnavailable("the image decoder is busy: try again later") from None

    def _ask(self, slot: "_Slot", content: bytes, size: int) -> DecodedImage | UnreadableImage:
        """Have the slot's child decode an image; once more in a new child if that one died."""
        status: int | None = None
        for _ in range(2):
            child = slot.child()
            try:
                answer = child.ask(content, size, time.monotonic() + self._timeout_s)
                outcome = _outcome(answer, size)
            except TimeoutError:
                slot.replace()
                return UnreadableImage(
                    f"the image took more than {self._timeout_s:g} s to decode: "
                    "export it at its normal size",
                    "too-slow",
                )
            except _ChildDied as death:
                # It may have been killed from outside while idle: not the image's fault.
                status = slot.replace()
                logger.warning("image decoder ended with status %s: %s", status, death)
            else:
                if answer.header.get("archive") or child.images >= IMAGES_PER_CHILD:
                    slot.replace()
                return outcome
        if status == -signal.SIGKILL:
            message = "the image needs too much memory: export it at its normal size"
            return UnreadableImage(message, "too-large")
        return UnreadableImage("the file is damaged: export the image again", "damaged")


class _Slot:
    """A place for one child. Whoever has leased it is the only one to use it."""

    def __init__(self, spawner: ThreadPoolExecutor, memory_bytes: int) -> None:
        self._spawner = spawner
        self._memory_bytes = memory_bytes
        self._starting: Future[_Child] | None = None

    def start(self) -> "Future[_Child]":
        """Have the child started in the background, unless it is."""
        if self._starting is None:
            try:
                self._starting = self._spawner.submit(_Child, self._memory_bytes)
            except RuntimeError as error:
                raise DecoderUnavailable("the image decoder is closed") from error
        return self._starting

    def child(self) -> "_Child":
        """The child of this place, alive and ready for an image; started anew where it is not."""
        for _ in range(2):
            try:
                child = self.start().result(START_TIMEOUT_S)
                child.wait_until_ready(time.monotonic() + START_TIMEOUT_S)
                if child.is_alive():
                    return child
            except (OSError, CancelledError, _ChildDied) as error:
                logger.warning("image decoder did not start: %r", error)
            self.discard()
        raise DecoderUnavailable("the image decoder does not start")

    def replace(self) -> int | None:
        """Kill the child and start another in the background; its exit status, if it had one."""
        status = self.discard()
        self.start()
        return status

    def discard(self) -> int | None:
        """Kill the child and forget it; its exit status, if it had one."""
        child = self._current()
        self._starting = None
        return child.discard() if child is not None else None

    def kill(self) -> None:
        """Kill the child under the hands of whoever is using it."""
        child = self._current()
        if child is not None:
            child.kill()

    def _current(self) -> "_Child | None":
        starting = self._starting
        if starting is None or not starting.done() or starting.cancelled():
            return None
        return starting.result() if starting.exception() is None else None


class _Child:
    """One running child process and the socket to it."""

    def __init__(self, memory_bytes: int) -> None:
        self._ready = False
        self._hung_up = False
        self.images = 0
        self._channel, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = self._start(theirs, memory_bytes)
        except OSError:
            self._channel.close()
            raise

    def _start(self, theirs: socket.socket, memory_bytes: int) -> subprocess.Popen[bytes]:
        arguments = [str(number) for number in (os.getpid(), memory_bytes)]
        return subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM, str(_ROOT), *arguments],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            # An interrupt at the terminal is for the server, which then closes its children.
            start_new_session=True,
        )

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def wait_until_ready(self, deadline: float) -> None:
        """Wait for the child's word that all it needs is imported.

        Raises:
            TimeoutError, _ChildDied: the word did not come.
        """
        if not self._ready:
            if self._receive_answer(deadline).header != READY:
                raise _ChildDied("it began with nonsense")
            self._ready = True

    def ask(self, content: bytes, size: int, deadline: float) -> Answer:
        """Send an image and wait for the answer.

        Raises:
            TimeoutError: no answer by the deadline.
            _ChildDied: no answer will come.
        """
        self.images += 1
        try:
            for part in (REQUEST.pack(len(content), size), content):
                self._channel.settimeout(_remaining(deadline))
                self._channel.sendall(part)
        except TimeoutError:
            raise
        except OSError as error:
            raise self._hang_up() from error
        return self._receive_answer(
            deadline, max_input=size**2, max_display=max(len(content), _MAX_RENDERED)
        )

    def kill(self) -> None:
        """Kill the process and wait for its end, which the kernel brings about at once."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(START_TIMEOUT_S)

    def discard(self) -> int | None:
        """Kill the process and close the socket; the exit status, if it had ended by itself."""
        status: int | None = self._process.poll()
        if status is None and self._hung_up:
            # It is about to end, and its own status tells why.
            with suppress(subprocess.TimeoutExpired):
                status = self._process.wait(_GRACE_S)
        self.kill()
        self._channel.close()
        return status

    def _receive_answer(
        self, deadline: float, *, max_input: int = 0, max_display: int = 0
    ) -> Answer:
        lengths = ANSWER.unpack(self._receive(ANSWER.size, deadline))
        limits = (_MAX_HEADER, max_input, max_display, _MAX_THUMBNAIL)
        if any(length > limit for length, limit in zip(lengths, limits, strict=True)):
            raise _ChildDied("it answered at too great a length")
        header, *sections = (self._receive(length, deadline) for length in lengths)
        return Answer(_parsed(header), *sections)

    def _hang_up(self) -> _ChildDied:
        self._hung_up = True
        return _ChildDied("it hung up")

    def _receive(self, length: int, deadline: float) -> bytes:
        content = bytearray(length)
        view = memoryview(content)
        while view:
            self._channel.settimeout(_remaining(deadline))
            try:
                received = self._channel.recv_into(view)
            except TimeoutError:
                raise
            except OSError as error:
                raise self._hang_up() from error
            if received == 0:
                raise self._hang_up()
            view = view[received:]
        return bytes(content)


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _parsed(header: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise _ChildDied("it answered with no JSON") from error
    if not isinstance(parsed, dict):
        raise _ChildDied("it answered with no JSON object")
    return parsed


# --- what a child answers is believed only in the form it should have ---------------------------


def _outcome(answer: Answer, size: int) -> DecodedImage | UnreadableImage:
    try:
        if "code" in answer.header:
            return _refusal(answer.header)
        return _decoded_image(answer, size)
    except (KeyError, TypeError, ValueError) as error:
        raise _ChildDied("it answered nonsense") from error


def _refusal(header: Mapping[str, Any]) -> UnreadableImage:
    code: Refusal = _one_of(header["code"], get_args(Refusal))
    return UnreadableImage(_text(header["message"]), code)


def _decoded_image(answer: Answer, size: int) -> DecodedImage:
    header = answer.header
    display_type = _one_of(header["display_type"], tuple(_PICTURE_STARTS))
    if not answer.display.startswith(_PICTURE_STARTS[display_type]):
        raise ValueError(f"the display image is no {display_type}")
    if not answer.thumbnail.startswith(_PICTURE_STARTS["image/jpeg"]):
        raise ValueError("the thumbnail is no JPEG")
    return DecodedImage(
        model_input=np.frombuffer(answer.model_input, np.uint8).reshape(size, size),
        display=answer.display,
        display_type=display_type,
        thumbnail=answer.thumbnail,
        width=_integer(header["width"], MAX_PIXELS),
        height=_integer(header["height"], MAX_PIXELS),
        format=_one_of(header["format"], get_args(Format)),
        bits=_integer(header["bits"], 16),
        metadata=_metadata(header["metadata"]),
    )


def _metadata(values: object) -> dict[str, str]:
    if not isinstance(values, dict) or len(values) > _MAX_METADATA:
        raise ValueError("the metadata are no short table")
    return {_text(key): _text(value) for key, value in values.items()}


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
