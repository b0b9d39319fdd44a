"""Rate limits: windows, memory, Redis and its absence, and what is stored of a caller."""

from collections.abc import Iterator
from time import time

import pytest
import redis

from app.accounts.sign_in import MOST_BY_ADDRESS, MOST_BY_NAME, SignInLimits
from app.core import rate_limit
from app.core.rate_limit import RateLimit, RateLimits
from tests.faults.deployment import redis_server
from tests.support.ports import free_port


def test_window_begins_with_the_first_time_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    start, passed = time(), 0.0
    monkeypatch.setattr("time.time", lambda: start + passed)
    limit = RateLimit(2, 60)
    assert [limit.take("a") for _ in range(3)] == [True, True, False]
    assert limit.take("b")
    passed = 59.0
    assert not limit.allows("a")
    passed = 61.0
    assert limit.allows("a")
    assert [limit.take("a") for _ in range(3)] == [True, True, False]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "_MOST_KEYS", 10)
    limit = RateLimit(1, 3600)
    for number in range(100):
        assert limit.take(f"192.0.2.{number}")
    assert len(limit._alone.storage.storage) <= 10  # type: ignore[attr-defined]


def test_nothing_is_shared_without_redis() -> None:
    limits = RateLimits("", "secret")
    assert not limits.are_shared
    assert SignInLimits.of(limits) is None
    assert limits.limit("one", 1, 60).take("a")
    assert limits.limit("one", 1, 60).take("a")


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    port = free_port()
    with redis_server(port):
        yield f"redis://127.0.0.1:{port}/0"


def test_servers_count_together_in_redis(redis_url: str) -> None:
    one, other = (RateLimits(redis_url, "secret").limit("shared", 2, 60) for _ in range(2))
    assert [one.take("192.0.2.1"), other.take("192.0.2.1"), one.take("192.0.2.1")] == [
        True,
        True,
        False,
    ]
    assert not other.allows("192.0.2.1")
    assert other.take("192.0.2.2")
    assert RateLimits(redis_url, "secret").limit("another", 1, 60).take("192.0.2.1")


def test_no_address_is_stored_in_clear(redis_url: str) -> None:
    RateLimits(redis_url, "secret").limit("private", 2, 60).take("203.0.113.77")
    with redis.Redis.from_url(redis_url) as client:
        keys = " ".join(key.decode() for key in client.keys("*private*"))
    assert keys
    assert "203.0.113" not in keys


def test_wrong_passwords_are_counted_in_redis(redis_url: str) -> None:
    one, other = (SignInLimits.of(RateLimits(redis_url, "sign-in")) for _ in range(2))
    assert one
    assert other
    for number in range(MOST_BY_ADDRESS):
        assert other.allow("192.0.2.9", f"guess {number}")
        one.count("192.0.2.9", f"guess {number}")
    assert not other.allow("192.0.2.9", "user")
    for number in range(MOST_BY_NAME):
        one.count(f"198.51.100.{number}", "popular")
    assert not other.allow("192.0.2.10", "popular")
    assert other.allow("192.0.2.10", "user")


def test_process_counts_alone_while_redis_is_away(caplog: pytest.LogCaptureFixture) -> None:
    limit = RateLimits(f"redis://127.0.0.1:{free_port()}/0", "secret").limit("away", 1, 60)
    assert [limit.take("a"), limit.take("a"), limit.take("b")] == [True, False, True]
    assert not limit.allows("a")
    assert "counted by this process alone" in caplog.text
