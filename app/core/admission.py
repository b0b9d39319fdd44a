"""Who calls, and how many requests of a kind of caller may be in progress at once."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from app.core.errors import Busy
from ml.texts import msg


class CallerKind(StrEnum):
    """Kinds of callers; each has separate places, so that none shuts out another."""

    KEY = "key"
    USER = "user"
    VISITOR = "visitor"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request is counted for.

    Attributes:
        kind: decides which places are taken.
        name: tells callers of a kind apart: the hash of a key, the id of a user, a visitor's
            address.
    """

    kind: CallerKind
    name: str


class Places:
    """Bounded places for requests in progress, apart by kind and bounded for each caller.

    Args:
        most: requests of each kind at once.
        per_caller: requests of one caller at once, by kind.
    """

    def __init__(self, most: int, per_caller: dict[CallerKind, int]) -> None:
        self._most = most
        self._per_caller = per_caller
        self._taken: Counter[CallerKind] = Counter()
        self._own: Counter[Caller] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, caller: Caller) -> Iterator[None]:
        """Hold a place.

        Raises:
            Busy: the caller, or its kind, has as many as it may.
        """
        self._take(caller)
        try:
            yield
        finally:
            self._give_back(caller)

    def _take(self, caller: Caller) -> None:
        with self._lock:
            if self._own[caller] >= self._per_caller[caller.kind]:
                raise Busy(
                    msg(
                        "%(count)s of your uploads are in progress, and no more are received at "
                        "once. Wait until one is done.",
                        count=self._own[caller],
                    )
                )
            if self._taken[caller.kind] >= self._most:
                raise Busy(msg("Too many images are being uploaded. Try again in a second."))
            self._taken[caller.kind] += 1
            self._own[caller] += 1

    def _give_back(self, caller: Caller) -> None:
        with self._lock:
            self._taken[caller.kind] -= 1
            self._own[caller] -= 1
            if not self._own[caller]:
                del self._own[caller]
