"""How often one address may do something, counted in the memory of this process alone.

Nothing is kept of an address: a restart forgets them all, and each server counts by itself.
"""

import threading
from collections import OrderedDict
from time import monotonic

# More addresses than this are not remembered at once; the ones longest unseen are forgotten first.
_ADDRESSES = 10_000


class Allowance:
    """So many times in a while for each address; safe to use from several threads at once."""

    def __init__(self, most: int, window_s: float) -> None:
        self._most, self._window_s = most, window_s
        self._lock = threading.Lock()
        # When the window of an address began, and how many times it came since.
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Count one more time of an address; whether it is within what is allowed."""
        with self._lock:
            moment = monotonic()
            began, times = self._seen.pop(address, (moment, 0))
            if moment - began >= self._window_s:
                began, times = moment, 0
            self._seen[address] = began, times + 1
            if len(self._seen) > _ADDRESSES:
                self._seen.popitem(last=False)
            return times < self._most
