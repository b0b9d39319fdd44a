"""The web server: uvicorn, which also ends event streams when it shuts down."""

import asyncio
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.runs.events import STREAMS

# In which the headers of a request have to arrive.
HEADERS_TIMEOUT_S = 15.0


class TimedProtocol(H11Protocol):
    """HTTP with bounds on the size of headers, and on the time in which they have to arrive.

    Without the latter, clients that send half a request keep their connections for ever.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time of the first request."""
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Start the time of a further request; end it when the headers are complete."""
        # Between two requests the time without any data is uvicorn's to limit.
        self._expect_headers()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        if self._waiting is None and self.conn.their_state is h11.IDLE:
            self._waiting = self.loop.call_later(HEADERS_TIMEOUT_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None


class Server(uvicorn.Server):
    """Finishes open requests when it shuts down, except event streams, which have no end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Close the event streams as well."""
        STREAMS.close()
        super().handle_exit(sig, frame)


def run(app: FastAPI, **options: Any) -> None:
    """Serve until SIGINT or SIGTERM; `options` are uvicorn's."""
    # Logging is configured by `app.core.logging`, access lines come from `app.core.request_log`.
    server = Server(
        uvicorn.Config(app, http=TimedProtocol, log_config=None, access_log=False, **options)
    )
    try:
        server.run()
    except KeyboardInterrupt:
        return
    if not server.started:
        # The reason was logged.
        raise SystemExit(3)
