"""The web server: uvicorn, whose pages that follow a run let go when it is told to end."""

from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.runs.events import STREAMS


class Server(uvicorn.Server):
    """Waits for the requests in hand when it ends, but not for streams, which have no end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the streams too."""
        STREAMS.close()
        super().handle_exit(sig, frame)


def run(app: FastAPI, **options: Any) -> None:
    """Serve until SIGINT or SIGTERM; `options` are uvicorn's."""
    server = Server(uvicorn.Config(app, **options))
    try:
        server.run()
    except KeyboardInterrupt:
        return
    if not server.started:
        # It has said why.
        raise SystemExit(3)
