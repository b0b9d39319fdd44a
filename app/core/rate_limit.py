"""How often one address may do something, counted in the memory of this process alone.

Nothing is kept of an address: a restart forgets them all, and each server counts by itself.
"""

import threading
from collections import OrderedDict
from ipaddress import IPv6Address, IPv6Network, ip_address
from time import monotonic

from fastapi import Request

# More addresses than this are not remembered at once; the ones longest unseen are forgotten first.
_ADDRESSES = 10_000


class RateLimit:
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


UNKNOWN = "unknown"
# One customer of a provider has a network of this many bits at least.
_IPV6_BITS = 64


def address_of(request: Request) -> str:
    """The caller's address: of IPv6 its network, of what is no address a word.

    Behind a proxy it is what the proxy says in X-Forwarded-For, which may be any text.
    """
    given = request.client.host if request.client else ""
    try:
        address = ip_address(given.partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or IPv6Network((address, _IPV6_BITS), strict=False))
    return str(address)
