"""An application behind a real server in a thread: for what depends on its one event loop."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from httpx2 import Client


@contextmanager
def served_app(app: FastAPI) -> Iterator[int]:
    """Serve an application; its port. Callers choose their address, as a proxy would."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, proxy_headers=True))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(60)


def client_at(port: int, address: str) -> Client:
    """A client that calls from an address."""
    headers = {"X-Forwarded-For": address}
    return Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for a condition, a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
