"""Limits on how often, or how much, one caller may do something.

Counts are in the memory of the process, or in Redis where one is configured, so that all servers
count together. Callers are stored as keyed hashes: no address is stored in clear.
"""

import hashlib
import hmac
import logging
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

from fastapi import Request
from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import FixedWindowRateLimiter

logger = logging.getLogger(__name__)
UNKNOWN: Final = "unknown"
# One customer of a provider has a network of this many bits at least.
_IPV6_BITS: Final = 64
# More callers than this are not remembered in memory at once; then all counts start again.
_MOST_KEYS: Final = 100_000
_REDIS_TIMEOUT_S: Final = 1.0


class _BoundedMemory(MemoryStorage):
    """Counts in memory, of a limited number of callers."""

    # The library registers storages by scheme; the plain one keeps its own.
    STORAGE_SCHEME = ["bounded-memory"]  # noqa: RUF012

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        if len(self.storage) >= _MOST_KEYS:
            self.reset()
        return super().incr(key, expiry, amount)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a caller has used of a limit.

    Attributes:
        name: of the limit.
        allowed: whether the last time was within it.
        most: times in a window.
        window_s: its length in seconds.
        left: times left in this window.
        reset_s: seconds until the next window.
    """

    name: str
    allowed: bool
    most: int
    window_s: int
    left: int
    reset_s: int

    @property
    def headers(self) -> Mapping[str, str]:
        """`RateLimit` and `RateLimit-Policy` (IETF httpapi), `Retry-After` once it is used up."""
        given = {
            "RateLimit-Policy": f'"{self.name}";q={self.most};w={self.window_s}',
            "RateLimit": f'"{self.name}";r={self.left};t={self.reset_s}',
        }
        return given if self.allowed else given | {"Retry-After": str(max(1, self.reset_s))}


class RateLimit:
    """At most so many times in a window, per caller; safe to use from several threads.

    A window begins with a caller's first time. Where Redis cannot be reached, this process counts
    alone until it can.

    Args:
        most: times allowed in a window.
        window_s: its length in seconds.
        name: sets the counts apart from those of other limits in the same storage.
        secret: key of the hash under which a caller is stored.
        storage: None for the memory of this process.
    """

    def __init__(
        self,
        most: int,
        window_s: int,
        *,
        name: str = "",
        secret: str = "",
        storage: Storage | None = None,
    ) -> None:
        self._item = RateLimitItemPerSecond(most, window_s)
        self._name = name
        self._secret = (secret or secrets.token_hex(16)).encode()
        self._alone = FixedWindowRateLimiter(_BoundedMemory())
        self._limiter = FixedWindowRateLimiter(storage) if storage else self._alone

    def take(self, caller: str, times: int = 1) -> bool:
        """Count one more time of a caller, or several; whether it is within the limit."""
        key = self._key(caller)
        try:
            return self._limiter.hit(self._item, self._name, key, cost=times)
        except StorageError as problem:
            self._warn(problem)
            return self._alone.hit(self._item, self._name, key, cost=times)

    def give_back(self, caller: str, times: int = 1) -> None:
        """Take back times of a caller that were counted before, in the same window."""
        key = self._item.key_for(self._name, self._key(caller))
        try:
            self._limiter.storage.incr(key, self._item.get_expiry(), amount=-times)
        except StorageError as problem:
            self._warn(problem)
            self._alone.storage.incr(key, self._item.get_expiry(), amount=-times)

    def use(self, caller: str) -> Usage:
        """Count one more time of a caller; what it has used then."""
        return self.usage(caller, allowed=self.take(caller))

    def usage(self, caller: str, *, allowed: bool) -> Usage:
        """What a caller has used; counts nothing.

        Args:
            caller: whose use.
            allowed: whether its last time was within the limit.
        """
        key = self._key(caller)
        try:
            stats = self._limiter.get_window_stats(self._item, self._name, key)
        except StorageError as problem:
            self._warn(problem)
            stats = self._alone.get_window_stats(self._item, self._name, key)
        return Usage(
            name=self._name,
            allowed=allowed,
            most=self._item.amount,
            window_s=self._item.get_expiry(),
            left=max(0, stats.remaining),
            reset_s=max(0, math.ceil(stats.reset_time - time.time())),
        )

    def allows(self, caller: str, times: int = 1) -> bool:
        """Whether a caller may do it once more, or several times; counts nothing."""
        key = self._key(caller)
        try:
            return self._limiter.test(self._item, self._name, key, cost=times)
        except StorageError as problem:
            self._warn(problem)
            return self._alone.test(self._item, self._name, key, cost=times)

    def _key(self, caller: str) -> str:
        return hashed_caller(caller, self._secret)

    def _warn(self, problem: StorageError) -> None:
        logger.warning("rate limits are counted by this process alone: %s", problem.storage_error)


class RateLimits:
    """Makes the application's limits, all in one storage.

    Args:
        redis_url: "redis://..."; anything else counts in the memory of this process.
        secret: key of the hash under which callers are stored.
    """

    def __init__(self, redis_url: str = "", secret: str = "") -> None:
        self._secret = secret
        self._storage: Storage | None = None
        if redis_url.startswith(("redis://", "rediss://")):
            self._storage = RedisStorage(
                redis_url,
                wrap_exceptions=True,
                socket_timeout=_REDIS_TIMEOUT_S,
                socket_connect_timeout=_REDIS_TIMEOUT_S,
            )

    @property
    def are_shared(self) -> bool:
        """Whether all servers count together."""
        return self._storage is not None

    def limit(self, name: str, most: int, window_s: int) -> RateLimit:
        """A limit of this name; the same name elsewhere shares its counts."""
        return RateLimit(most, window_s, name=name, secret=self._secret, storage=self._storage)


def address_of(request: Request) -> str:
    """The caller's address; of IPv6 its network, and "unknown" for what is no address.

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


def hashed_caller(caller: str, secret: bytes) -> str:
    """What is stored of a caller: the same hash each time, of no use without the secret."""
    return hmac.new(secret, caller.encode(), hashlib.sha256).hexdigest()[:32]
