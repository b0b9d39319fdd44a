"""Images made on the spot: generators in ONNX Runtime, loaded when first asked, few at a time."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from app.core.errors import AppError, Busy, Conflict
from app.core.rate_limit import RateLimit, RateLimits
from ml.errors import BundleError
from ml.gan.onnx_generator import GeneratorGraph
from ml.texts import msg

_KEPT = 2
_AT_ONCE = 2
_WAIT_S = 1.0
# Pictures that one address may have made in a minute; a page needs one.
MOST_PER_MINUTE = 60
_WINDOW_S = 60


class TooManyPictures(AppError):
    """One address has too many images made."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    title = msg("Too many images at once")
    default_code = "too-many-pictures"

    def __init__(self) -> None:
        super().__init__(
            msg(
                "At most %(most)s images a minute are generated for one address. Try again in a "
                "minute.",
                most=MOST_PER_MINUTE,
            ),
            headers={"Retry-After": str(_WINDOW_S)},
        )


def pictures_limit(limits: RateLimits) -> RateLimit:
    """How many images an address may have generated."""
    return limits.limit("pictures", MOST_PER_MINUTE, _WINDOW_S)


class Generators:
    """The generators of this process.

    Args:
        pictures: how many images an address may have generated; by default counted here alone.
    """

    def __init__(self, pictures: RateLimit | None = None) -> None:
        self._graphs: OrderedDict[Path, GeneratorGraph] = OrderedDict()
        self._loading = threading.Lock()
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._pictures = pictures or pictures_limit(RateLimits())

    def get(self, folder: Path) -> GeneratorGraph:
        """The generator of a model's folder, which never changes; ask in a turn, it may take long.

        Raises:
            Conflict: the folder has no graph that can be run here.
        """
        with self._loading:
            graph = self._graphs.get(folder)
            if graph is None:
                try:
                    graph = GeneratorGraph.load(folder)
                except BundleError as problem:
                    raise Conflict(
                        msg(
                            "This generator cannot generate images here. %(problem)s",
                            problem=str(problem),
                        )
                    ) from problem
                self._graphs[folder] = graph
                if len(self._graphs) > _KEPT:
                    self._graphs.popitem(last=False)
            self._graphs.move_to_end(folder)
            return graph

    @contextmanager
    def turn(self, address: str) -> Iterator[None]:
        """Wait for a turn to load a generator and to make images; screenings want the cores as
        well.

        Raises:
            TooManyPictures: this address had too many lately.
            Busy: too many others are waiting.
        """
        if not self._pictures.take(address):
            raise TooManyPictures
        if not self._free.acquire(timeout=_WAIT_S):
            raise Busy(msg("Too many images are being generated. Try again in a moment."))
        try:
            yield
        finally:
            self._free.release()
