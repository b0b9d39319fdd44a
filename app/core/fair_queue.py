"""A short wait for one of a few turns: in order for each caller, and fair between callers."""

import asyncio
import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from app.core.admission import Caller, CallerKind
from app.core.errors import Busy

# Weight of the newest turn in the measured length of a turn: a few slow ones send nobody away.
_NEWEST = 0.03
# Where a wait was estimated wrongly, it ends after this time.
PATIENCE_S = 30.0


@dataclass(eq=False, slots=True)
class _Waiting:
    """One request that waits for its turn."""

    caller: Caller
    loop: asyncio.AbstractEventLoop
    called: "asyncio.Future[None]"
    has_turn: bool = False

    def call(self) -> None:
        with suppress(RuntimeError):  # its loop has ended, and `turn` with it
            self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.called.done():
            self.called.set_result(None)


@dataclass(slots=True)
class _Line:
    """Those of one kind who wait: callers take turns, each caller's requests come in order."""

    callers: "OrderedDict[str, deque[_Waiting]]" = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return sum(map(len, self.callers.values()))

    def ahead_of(self, name: str) -> int:
        """How many have their turn before one more request of a caller would."""
        own = len(self.callers.get(name, ()))
        others = (waiting for caller, waiting in self.callers.items() if caller != name)
        return own + sum(min(len(waiting), own + 1) for waiting in others)

    def add(self, waiting: _Waiting) -> None:
        self.callers.setdefault(waiting.caller.name, deque()).append(waiting)

    def pop(self) -> _Waiting:
        name, waiting = next(iter(self.callers.items()))
        first = waiting.popleft()
        self.callers.move_to_end(name)
        if not waiting:
            del self.callers[name]
        return first

    def remove(self, waiting: _Waiting) -> None:
        own = self.callers[waiting.caller.name]
        own.remove(waiting)
        if not own:
            del self.callers[waiting.caller.name]


class FairQueue:
    """Gives out a number of turns; who has to wait longer than a limit is sent away at once.

    Kinds of callers take turns, and so do the callers of a kind, so one with many requests makes
    nobody else wait long. The wait is estimated from the measured length of a turn. Waiting takes
    no thread. Safe to use from several threads and event loops.

    Args:
        turns: requests at work at once. Visitors have three quarters of them at most.
        longest_wait_s: the longest estimated wait; more get `Busy`.
        typical_s: length of a turn, until one has been measured.
        busy: what a caller is told who would have to wait longer.
    """

    def __init__(
        self, turns: int, longest_wait_s: float, *, typical_s: float = 0.05, busy: str
    ) -> None:
        self._turns = dict.fromkeys(CallerKind, turns)
        self._turns[CallerKind.VISITOR] = max(1, turns * 3 // 4)
        self._all = turns
        self._longest_wait_s = longest_wait_s
        self._turn_s = typical_s
        self._busy = busy
        self._at_work: Counter[CallerKind] = Counter()
        # The first kind is the one whose turn it is.
        self._lines = OrderedDict((kind, _Line()) for kind in CallerKind)
        self._lock = threading.Lock()

    @asynccontextmanager
    async def turn(self, caller: Caller, parts: int = 1) -> AsyncIterator[None]:
        """Wait for a turn and hold it.

        Args:
            caller: whom the turn is for.
            parts: of its work, such as images; each counts as a turn when turns are measured.

        Raises:
            Busy: the wait would be too long.
        """
        waiting = self._enter(caller)
        try:
            await asyncio.wait_for(waiting.called, PATIENCE_S)
        except TimeoutError as problem:
            self._leave(waiting)
            raise Busy(self._busy) from problem
        except BaseException:
            self._leave(waiting)
            raise
        start = time.monotonic()
        try:
            yield
        finally:
            self._finish(waiting, (time.monotonic() - start) / max(1, parts))

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self._lock:
            return sum(map(len, self._lines.values()))

    def _enter(self, caller: Caller) -> _Waiting:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(caller, loop, loop.create_future())
        with self._lock:
            wait_s = self._estimated_wait_s(caller)
            if wait_s > self._longest_wait_s:
                late_s = math.ceil(wait_s - self._longest_wait_s)
                raise Busy(self._busy, retry_after_s=max(1, late_s))
            self._lines[caller.kind].add(waiting)
            self._call_next()
        return waiting

    def _estimated_wait_s(self, caller: Caller) -> float:
        ahead = self._lines[caller.kind].ahead_of(caller.name)
        if not ahead and self._is_free(caller.kind):
            return 0.0
        others = (line for kind, line in self._lines.items() if kind != caller.kind)
        ahead += 1 + sum(min(len(line), ahead + 1) for line in others)
        return ahead * self._turn_s / self._turns[caller.kind]

    def _is_free(self, kind: CallerKind) -> bool:
        return self._at_work.total() < self._all and self._at_work[kind] < self._turns[kind]

    def _call_next(self) -> None:
        """Give free turns to those who are next. The lock is held."""
        while kind := next(
            (kind for kind, line in self._lines.items() if line.callers and self._is_free(kind)),
            None,
        ):
            waiting = self._lines[kind].pop()
            self._lines.move_to_end(kind)
            self._at_work[kind] += 1
            waiting.has_turn = True
            waiting.call()

    def _leave(self, waiting: _Waiting) -> None:
        with self._lock:
            if waiting.has_turn:
                self._at_work[waiting.caller.kind] -= 1
                self._call_next()
            else:
                self._lines[waiting.caller.kind].remove(waiting)

    def _finish(self, waiting: _Waiting, took_s: float) -> None:
        with self._lock:
            self._turn_s += _NEWEST * (took_s - self._turn_s)
            self._at_work[waiting.caller.kind] -= 1
            self._call_next()
