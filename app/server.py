"""The web server: uvicorn, which also ends event streams when it shuts down."""

from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.runs.events import STREAMS


class Server(uvicorn.Server):
    """Finishes open requests when it shuts down, except event streams, which have no end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Close the event streams as well."""
        STREAMS.close()
        super().handle_exit(sig, frame)


def run(app: FastAPI, **options: Any) -> None:
    """Serve until SIGINT or SIGTERM; `options` are uvicorn's."""
    # Logging is configured by `app.core.logging`, access lines come from `app.core.request_log`.
    server = Server(uvicorn.Config(app, log_config=None, access_log=False, **options))
    try:
        server.run()
    except KeyboardInterrupt:
        return
    if not server.started:
        # The reason was logged.
        raise SystemExit(3)
