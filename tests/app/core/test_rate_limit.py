"""Rate limits: windows, memory, Redis and its absence, and what is stored of a caller."""

from collections.abc import Iterator
from contextlib import ExitStack
from time import time

import pytest
import redis
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from app.accounts.sign_in import MOST_BY_SOURCE, SignInAttempts, TooManyTries
from app.core import rate_limit
from app.core.audit import AuditEvent
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


def test_attempts_of_all_servers_are_counted_in_redis(redis_url: str) -> None:
    one, other = (SignInAttempts.of(RateLimits(redis_url, "sign-in")) for _ in range(2))
    engine = create_engine("sqlite://")
    AuditEvent.__table__.create(engine)  # type: ignore[attr-defined]
    with Session(engine) as session, ExitStack() as in_progress:
        for number in range(MOST_BY_SOURCE // 2):
            for server in (one, other):
                attempt = server.admitted(session, "address:one", f"guess {number}")
                in_progress.enter_context(attempt).was_wrong = number % 2 == 0
        with pytest.raises(TooManyTries):
            one.admitted(session, "address:one", "user").__enter__()
        with one.admitted(session, "address:two", "user"):
            pass
    # Right passwords count no longer once they are checked.
    with Session(engine) as session, other.admitted(session, "address:one", "user"):
        pass


def test_times_can_be_given_back_and_are_told() -> None:
    limit = RateLimit(5, 60, name="some")
    assert limit.take("a", 4)
    assert not limit.allows("a", 2)
    assert not limit.take("a", 2)
    limit.give_back("a", 2)
    usage = limit.use("a")
    assert usage.allowed
    assert usage.headers == {
        "RateLimit-Policy": '"some";q=5;w=60',
        "RateLimit": f'"some";r=0;t={usage.reset_s}',
    }
    assert 58 <= usage.reset_s <= 60
    assert limit.use("a").headers["Retry-After"]


def test_process_counts_alone_while_redis_is_away(caplog: pytest.LogCaptureFixture) -> None:
    limit = RateLimits(f"redis://127.0.0.1:{free_port()}/0", "secret").limit("away", 1, 60)
    assert [limit.take("a"), limit.take("a"), limit.take("b")] == [True, False, True]
    assert not limit.allows("a")
    assert "counted by this process alone" in caplog.text
