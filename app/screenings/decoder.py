"""Decode images in child processes: no input may kill or stall the server.

Each child has limited memory and time for an image. A child that exceeds them, crashes or sends an
invalid reply is killed and replaced, and the image is refused with an `UnreadableImage`.
"""

import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from app.core.metrics import DECODER_QUEUE
from app.screenings.decoder_protocol import (
    READY,
    REPLY,
    REQUEST,
    DecodedImage,
    InvalidReply,
    Reply,
    read_header,
    read_reply,
    section_lengths,
)
from app.settings import DECODER_MEMORY
from ml.imaging.corrections import UPRIGHT, Orientation
from ml.imaging.types import UnreadableImage
from ml.texts import msg

logger = logging.getLogger(__name__)
# A child is replaced after so many images: the decoders may leak memory.
IMAGES_PER_CHILD = 500
# Generous, for a loaded machine; it is well below a second otherwise.
START_TIMEOUT_S = 20.0
# How long a child that closed the socket may take to end.
_GRACE_S = 1.0
_ROOT = Path(__file__).parents[2]
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]);"
    "from app.screenings.decoder_process import main; main()"
)
# One thread each: the pool is the parallelism.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class DecoderUnavailable(RuntimeError):
    """No child process is free in time, none starts, or the decoder is closed."""


class _ChildDied(Exception):
    """A child ended or closed the socket."""


class ImageDecoder:
    """A pool of child processes that decode images; safe to use from many threads.

    Args:
        workers: number of children, which is the number of images decoded at the same time.
        timeout_s: time for one image, and the time that a caller waits for a free child.
        memory_bytes: memory for one image, on top of what an idle child takes.
    """

    def __init__(
        self,
        workers: int,
        timeout_s: float = 15.0,
        memory_bytes: int = DECODER_MEMORY,
    ) -> None:
        if workers < 1:
            raise ValueError(f"expected at least one worker, got {workers}")
        self._timeout_s = timeout_s
        # The kernel kills a child when the thread that started it ends. So one thread, which
        # lives as long as the decoder, starts them all.
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="image-decoder")
        self._slots = [_Slot(self._spawner, memory_bytes) for _ in range(workers)]
        # Last in, first out: a warm child is preferred to one that is still starting.
        self._idle: queue.LifoQueue[_Slot] = queue.LifoQueue()
        for slot in self._slots:
            self._idle.put(slot)
        self._closed = False

    def start(self) -> None:
        """Start the children in the background; otherwise each starts with its first image."""
        for slot in self._slots:
            slot.start()

    def decode(self, content: bytes, size: int, correction: Orientation = UPRIGHT) -> DecodedImage:
        """Decode one image in a child, blocking until it is done.

        Args:
            content: the whole file.
            size: side of the model input in pixels; it depends on the active model.
            correction: how the image lies; it is turned and inverted accordingly.

        Raises:
            UnreadableImage: as `ml.imaging.decode.read_image`; also with the code "too-slow", and
                "damaged" or "too-large" where the file killed the child.
            DecoderUnavailable: no child was free in time, or none could be started.
        """
        slot = self._lease()
        try:
            outcome = self._ask(slot, content, size, correction)
        finally:
            self._idle.put(slot)
        if isinstance(outcome, UnreadableImage):
            raise outcome
        return outcome

    def close(self) -> None:
        """Kill the children. Images that are being decoded are refused."""
        if self._closed:
            return
        self._closed = True
        self._spawner.shutdown(cancel_futures=True)
        for slot in self._slots:
            slot.kill()
        # Callers have lost their child by now and return the slots at once.
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
            raise DecoderUnavailable(msg("The image decoder is closed."))
        try:
            with DECODER_QUEUE.track_inprogress():
                return self._idle.get(timeout=self._timeout_s)
        except queue.Empty:
            raise DecoderUnavailable(msg("The image decoder is busy. Try again later.")) from None

    def _ask(
        self, slot: "_Slot", content: bytes, size: int, correction: Orientation
    ) -> DecodedImage | UnreadableImage:
        """Decode an image in the slot's child; once more in a new child if that one died."""
        status: int | None = None
        for _ in range(2):
            child = slot.child()
            try:
                deadline = time.monotonic() + self._timeout_s
                reply = child.ask(content, size, correction, deadline)
                outcome = read_reply(reply, size)
            except TimeoutError:
                slot.replace()
                return UnreadableImage(
                    msg(
                        "Decoding the image took more than %(timeout_s)s seconds. Export it at its "
                        "normal size.",
                        timeout_s=format(self._timeout_s, "g"),
                    ),
                    "too-slow",
                )
            except (_ChildDied, InvalidReply) as death:
                # It may have been killed from outside while idle, so the image gets a second try.
                status = slot.replace()
                logger.warning("image decoder ended with status %s: %s", status, death)
            else:
                if reply.asks_for_restart or child.images >= IMAGES_PER_CHILD:
                    slot.replace()
                return outcome
        if status == -signal.SIGKILL:
            message = msg("Decoding the image needs too much memory. Export it at its normal size.")
            return UnreadableImage(message, "too-large")
        return UnreadableImage(msg("The file is damaged. Export the image again."), "damaged")


class _Slot:
    """A place in the pool with at most one child; one caller at a time leases it."""

    def __init__(self, spawner: ThreadPoolExecutor, memory_bytes: int) -> None:
        self._spawner = spawner
        self._memory_bytes = memory_bytes
        self._starting: Future[_Child] | None = None

    def start(self) -> "Future[_Child]":
        """Start the child in the background, unless it was started."""
        if self._starting is None:
            try:
                self._starting = self._spawner.submit(_Child, self._memory_bytes)
            except RuntimeError as error:
                raise DecoderUnavailable(msg("The image decoder is closed.")) from error
        return self._starting

    def child(self) -> "_Child":
        """The child, alive and ready for an image; a new one where it is not."""
        for _ in range(2):
            try:
                child = self.start().result(START_TIMEOUT_S)
                child.wait_until_ready(time.monotonic() + START_TIMEOUT_S)
                if child.is_alive():
                    return child
            except (OSError, CancelledError, _ChildDied, InvalidReply) as error:
                logger.warning("image decoder did not start: %r", error)
            self.discard()
        raise DecoderUnavailable(msg("The image decoder does not start."))

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
        """Kill the child, also while a caller uses it."""
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
        """Wait until the child has imported all it needs.

        Raises:
            TimeoutError, _ChildDied, InvalidReply: it did not report in time.
        """
        if not self._ready:
            if self._receive_reply(deadline).header != READY:
                raise InvalidReply("the first reply is not the expected one")
            self._ready = True

    def ask(self, content: bytes, size: int, correction: Orientation, deadline: float) -> Reply:
        """Send an image and wait for the reply.

        Raises:
            TimeoutError: no reply by the deadline.
            _ChildDied, InvalidReply: no usable reply will come.
        """
        self.images += 1
        try:
            turns, inverted = correction.quarter_turns, correction.inverted
            for part in (REQUEST.pack(len(content), size, turns, inverted), content):
                self._channel.settimeout(_remaining(deadline))
                self._channel.sendall(part)
        except TimeoutError:
            raise
        except OSError as error:
            raise self._hang_up() from error
        return self._receive_reply(deadline, image_bytes=len(content), size=size)

    def kill(self) -> None:
        """Kill the process and wait for its end."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(START_TIMEOUT_S)

    def discard(self) -> int | None:
        """Kill the process and close the socket; the exit status, if it had ended by itself."""
        status: int | None = self._process.poll()
        if status is None and self._hung_up:
            # It is about to end, and its exit status says why.
            with suppress(subprocess.TimeoutExpired):
                status = self._process.wait(_GRACE_S)
        self.kill()
        self._channel.close()
        return status

    def _receive_reply(self, deadline: float, *, image_bytes: int = 0, size: int = 0) -> Reply:
        packed = self._receive(REPLY.size, deadline)
        lengths = section_lengths(packed, image_bytes=image_bytes, size=size)
        header, *sections = (self._receive(length, deadline) for length in lengths)
        return Reply(read_header(header), *sections)

    def _hang_up(self) -> _ChildDied:
        self._hung_up = True
        return _ChildDied("the child closed the socket")

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
