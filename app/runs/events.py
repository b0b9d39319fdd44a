"""Notifies browsers that a run changed, as server-sent events; they then request the change.

A stream looks at the run's row and at its files about once a second, in a thread and with a
database session of that moment: while it waits it holds nothing. Streams are few, as browsers that
find none left reload the page now and then instead.
"""

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Sequence

import anyio
import anyio.to_thread
from fastapi.sse import ServerSentEvent

from app.accounts.tables import Role
from app.accounts.users import signed_in_user
from app.core.errors import Busy
from app.runs.files import SAMPLES, run_folder, state_of_files
from app.runs.progress import METRICS
from app.runs.tables import Run, RunStatus
from app.services import Services
from ml.texts import msg

MOST_STREAMS = 32
LOOK_EVERY_S = 1.0
ENDED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
# The threads that answer requests are not kept busy with looking.
_LOOKERS = anyio.CapacityLimiter(4)


class Streams:
    """The open streams of this process: bounded, and all ended when the server shuts down."""

    def __init__(self, most: int = MOST_STREAMS):
        self.most = most
        self.open = 0
        self.closing = False

    def close(self) -> None:
        """End the streams that are open, within a second, and take no further one."""
        self.closing = True


STREAMS = Streams()


async def place_in_streams() -> AsyncIterator[None]:
    """A dependency that holds one of the places until the stream has ended, however it ends.

    Raises:
        Busy: none is left, or the server is going.
    """
    if STREAMS.closing or STREAMS.open >= STREAMS.most:
        raise Busy(
            msg("Too many pages are following runs. Reload this page instead."), retry_after_s=10
        )
    STREAMS.open += 1
    try:
        yield
    finally:
        STREAMS.open -= 1


async def follow(
    services: Services, id: uuid.UUID, token: str, seen: str | None
) -> AsyncIterator[ServerSentEvent]:
    """An event `changed` whenever the run's page would look different, and `over` at its end.

    Args:
        services: of the application.
        id: the run.
        token: of the admin's session, which may end meanwhile.
        seen: the state that the browser has shown last, the id of its last event.

    """
    while not STREAMS.closing:
        state = await anyio.to_thread.run_sync(_look, services, id, token, limiter=_LOOKERS)
        if state is None:
            return
        mark, is_over = state
        if mark != seen:
            seen = mark
            yield ServerSentEvent(event="changed", id=mark, raw_data="", retry=2000)
        if is_over:
            yield ServerSentEvent(event="over", raw_data="")
            return
        await anyio.sleep(LOOK_EVERY_S)


def _look(services: Services, id: uuid.UUID, token: str) -> tuple[str, bool] | None:
    """The state of a run as a mark, and whether it is over; None where nobody may see it now."""
    with services.database.sessions() as session:
        user = signed_in_user(session, token)
        run = session.get(Run, id)
        if run is None or user is None or user.role is not Role.ADMIN:
            return None
    files = state_of_files(run_folder(services.settings, id), (METRICS, SAMPLES))
    return state_digest(run, files), run.status in ENDED


def state_digest(run: Run, files: Sequence[int]) -> str:
    """The state of a run in a few letters, different for whatever its page would show."""
    shown = [
        run.status,
        run.attempts,
        run.progress,
        run.reason,
        run.result,
        run.lease_owner,
        run.cancel_requested_at is not None,
        run.log_tail,
        *files,
    ]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]
