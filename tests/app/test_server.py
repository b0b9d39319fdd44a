"""The web server's limits on connections."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI

from app import server as served
from tests.support.ports import free_port


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server of one page, which gives headers half a second."""
    monkeypatch.setattr(served, "HEADERS_TIMEOUT_S", 0.5)
    app, port = FastAPI(), free_port()

    @app.post("/")
    async def read() -> str:
        return "read"

    config = uvicorn.Config(app, port=port, http=served.TimedProtocol, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield port
    server.should_exit = True
    thread.join(60)


def connected(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(60)
    return client


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_half_sent_headers_are_closed(port: int, sent: bytes) -> None:
    with connected(port) as client:
        client.sendall(sent)
        assert client.recv(1000) == b""


def test_half_sent_headers_of_a_second_request_are_closed(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        answer = b""
        while b'"read"' not in answer:
            answer += client.recv(1000)
        client.sendall(b"POST / HTTP/1.1\r\nHost: ")
        assert client.recv(1000) == b""


def test_body_that_takes_longer_than_headers_may_is_read(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        time.sleep(1.0)
        client.sendall(b"b")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
