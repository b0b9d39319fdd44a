"""Where passwords are checked: in separate threads, a few at a time, and after a short wait.

A check takes some 50 ms and 64 MB. In the threads of all other requests a burst of them would hold
up everything else.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.core.admission import Caller, CallerKind
from app.core.fair_queue import FairQueue
from ml.texts import msg

_Result = TypeVar("_Result")
_LONGEST_WAIT_S = 5.0


class PasswordChecks:
    """Runs password checks; the cores are left to other requests for the most part.

    Args:
        at_once: checks at the same time.
    """

    def __init__(self, at_once: int | None = None) -> None:
        at_once = at_once or max(1, min(4, (os.cpu_count() or 1) // 2))
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="password")
        self._turns = FairQueue(
            at_once,
            _LONGEST_WAIT_S,
            typical_s=0.1,
            busy=msg("Too many people are signing in. Try again in a moment."),
        )

    async def run(self, check: Callable[[], _Result], address: str, *, is_known: bool) -> _Result:
        """Run a check when it is its turn.

        Args:
            check: what to run.
            address: of the caller; addresses take turns.
            is_known: whether the caller has signed in before; those come before a burst of others.

        Raises:
            Busy: too many wait.
        """
        kind = CallerKind.USER if is_known else CallerKind.VISITOR
        async with self._turns.turn(Caller(kind, address)):
            return await asyncio.get_running_loop().run_in_executor(self._threads, check)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._turns.waiting

    def close(self) -> None:
        """Let the checks in progress end."""
        self._threads.shutdown()
