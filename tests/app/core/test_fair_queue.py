"""Turns: their order, their fairness between callers, and who is sent away."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.core import fair_queue
from app.core.admission import Caller, CallerKind, Places
from app.core.errors import Busy
from app.core.fair_queue import FairQueue

ONE, OTHER = (Caller(CallerKind.KEY, name) for name in ("one", "other"))
USER = Caller(CallerKind.USER, "user")
VISITOR, STRANGER = (Caller(CallerKind.VISITOR, name) for name in ("192.0.2.1", "192.0.2.2"))


def queue(turns: int = 1, longest_wait_s: float = 60.0, typical_s: float = 1.0) -> FairQueue:
    return FairQueue(turns, longest_wait_s, typical_s=typical_s, busy="busy")


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 30))


async def order_of_turns(fair: FairQueue, callers: list[Caller]) -> list[str]:
    """Who has a turn when, while one request holds the only turn until all wait."""
    order: list[str] = []

    async def work(caller: Caller) -> None:
        async with fair.turn(caller):
            order.append(caller.name)

    async with fair.turn(Caller(CallerKind.KEY, "first")):
        tasks = []
        for number, caller in enumerate(callers, 1):
            tasks.append(asyncio.create_task(work(caller)))
            while fair.waiting < number:
                await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return order


def test_requests_of_one_caller_come_in_order() -> None:
    async def check() -> None:
        fair, order = queue(), list[int]()

        async def work(number: int) -> None:
            async with fair.turn(ONE):
                order.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(work(number))
        assert order == list(range(20))

    run(check())


def test_callers_and_kinds_take_turns() -> None:
    async def check() -> None:
        callers = [ONE, ONE, ONE, OTHER, VISITOR, VISITOR, STRANGER]
        order = await order_of_turns(queue(), callers)
        # The one with a single request waits for one of each other caller, not for all of theirs.
        assert order.index("other") <= 3
        assert order.index("192.0.2.2") <= 4
        assert sorted(order) == sorted(caller.name for caller in callers)

    run(check())


def test_who_would_wait_too_long_is_sent_away_and_others_are_not() -> None:
    async def check() -> None:
        fair = queue(longest_wait_s=3.5)

        async def work(caller: Caller) -> None:
            async with fair.turn(caller):
                pass

        async with asyncio.TaskGroup() as group, fair.turn(ONE):
            for number in range(3):
                group.create_task(work(ONE))
                while fair.waiting <= number:
                    await asyncio.sleep(0)
            with pytest.raises(Busy) as refused:
                await work(ONE)
            assert refused.value.headers["Retry-After"] == "1"
            group.create_task(work(OTHER))
            group.create_task(work(VISITOR))
            while fair.waiting < 5:
                await asyncio.sleep(0)

    run(check())


def test_wait_is_estimated_from_measured_turns() -> None:
    async def check() -> None:
        fair = queue(longest_wait_s=0.5, typical_s=10.0)
        async with fair.turn(ONE):
            with pytest.raises(Busy):
                await fair.turn(ONE).__aenter__()
        for _ in range(200):
            async with fair.turn(ONE):
                pass
        async with fair.turn(ONE):
            waiting = asyncio.create_task(fair.turn(ONE).__aenter__())
            while not fair.waiting:
                await asyncio.sleep(0)
        await waiting

    run(check())


def test_visitors_leave_a_turn_to_clinics() -> None:
    async def check() -> None:
        fair = queue(turns=4)
        async with AsyncExitStack() as held:
            for _ in range(3):
                await held.enter_async_context(fair.turn(VISITOR))
            waiting = asyncio.create_task(held.enter_async_context(fair.turn(VISITOR)))
            while not fair.waiting:
                await asyncio.sleep(0)
            async with fair.turn(ONE):
                assert not waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert not fair.waiting

    run(check())


@pytest.mark.parametrize("when", ["waiting", "called"])
def test_one_who_leaves_passes_the_turn_on(when: str) -> None:
    async def check() -> None:
        fair = queue()
        async with fair.turn(ONE):
            leaving = asyncio.create_task(fair.turn(OTHER).__aenter__())
            while not fair.waiting:
                await asyncio.sleep(0)
            if when == "waiting":
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
        # Called, but not yet awake.
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        async with fair.turn(USER):
            pass

    run(check())


def test_wait_that_was_estimated_wrongly_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_queue, "PATIENCE_S", 0.01)

    async def check() -> None:
        fair = queue()
        async with fair.turn(ONE):
            with pytest.raises(Busy):
                await fair.turn(OTHER).__aenter__()
        assert not fair.waiting

    run(check())


def test_places_are_apart_by_kind_and_bounded_for_each_caller() -> None:
    places = Places(2, {CallerKind.KEY: 2, CallerKind.USER: 2, CallerKind.VISITOR: 1})
    with places.taken(VISITOR):
        with pytest.raises(Busy, match="1 of your uploads"), places.taken(VISITOR):
            pass
        with places.taken(STRANGER):
            with (
                pytest.raises(Busy, match="Too many images"),
                places.taken(Caller(CallerKind.VISITOR, "192.0.2.3")),
            ):
                pass
            with places.taken(ONE), places.taken(OTHER):
                pass
    with places.taken(VISITOR):
        pass
