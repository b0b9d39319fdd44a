"""Room for uploads in the temporary folder, promised before a body is read."""

import logging
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.core.errors import StorageFull
from app.core.multipart import SPOOL_BYTES
from ml.texts import msg

logger = logging.getLogger(__name__)


class Promise:
    """Room that was promised to one upload and is not yet used.

    Attributes:
        left: bytes.
    """

    def __init__(self, left: int) -> None:
        self.left = left

    def kept(self, count: int) -> None:
        """So many bytes arrived: from now on they take room themselves."""
        self.left = max(0, self.left - count)


class SpoolRoom:
    """Promises room for uploads, never more than there is.

    Args:
        folder: on the disk where large uploads are kept; the temporary folder by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        self._promises: set[Promise] = set()
        self._lock = threading.Lock()

    @contextmanager
    def promised(self, expected: int, *, leave: int = 0) -> Iterator[Promise]:
        """Promise room for an upload.

        Args:
            expected: its size in bytes; a small one is kept in memory and needs none.
            leave: bytes to be left for others, of which a quarter of the disk is enough.

        Raises:
            StorageFull: there is not enough.
        """
        promise = Promise(expected if expected > SPOOL_BYTES else 0)
        if promise.left:
            self._require(promise, leave)
        try:
            yield promise
        finally:
            with self._lock:
                self._promises.discard(promise)

    def _require(self, promise: Promise, leave: int) -> None:
        with self._lock:
            disk = shutil.disk_usage(self._folder)
            promised = sum(other.left for other in self._promises)
            if disk.free - promised - min(leave, disk.total // 4) >= promise.left:
                self._promises.add(promise)
                return
        logger.warning("the temporary folder %s has no room for an upload", self._folder)
        raise StorageFull(
            msg(
                "The server has no room to receive %(left)s MB now. Try again in a minute. "
                "If this persists, ask the server's operator to free space in the temporary "
                "folder.",
                left=max(1, promise.left // 1000000),
            )
        )
