"""Starting servers and sending them images, for the benchmarks."""

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parent.parent
BOUNDARY = "image-boundary-7d1f"
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    process: "subprocess.Popen[bytes]"
    port: int
    home: Path
    key: str = ""
    first_answer_s: float = 0.0
    ready_s: float = 0.0


def free_port() -> int:
    """A port that nobody listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def our_server(home: Path, settings: Mapping[str, str] = NO_SETTINGS) -> Iterator[Server]:
    """`xray serve` with everything embedded, as a user starts it, but no worker beside it.

    Args:
        home: its home folder, empty.
        settings: environment variables beside `XRAY_HOME`.
    """
    port = free_port()
    log = home / "server.log"
    environment = {name: own for name, own in os.environ.items() if not name.startswith("XRAY_")}
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--port", str(port), "--no-worker"],
            cwd=ROOT,
            env=environment | {"XRAY_HOME": str(home), **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    with _ended(process):
        first = wait_for(port, "/livez", process) - start
        ready = wait_for(port, "/readyz", process) - start
        found = re.search(r"xray_[\w-]{20,}", log.read_text())
        yield Server(process, port, home, found[0] if found else "", first, ready)


@contextlib.contextmanager
def plain_server() -> Iterator[Server]:
    """The peer of `benchmarks/plain_server.py`."""
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "uvicorn",
            "benchmarks.plain_server:app",
            "--port",
            str(port),
            "--log-level",
            "warning",
        ],
        cwd=ROOT,
    )
    with _ended(process), tempfile.TemporaryDirectory() as folder:
        wait_for(port, "/livez", process)
        yield Server(process, port, Path(folder))


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port: int, path: str, process: "subprocess.Popen[bytes]") -> float:
    """The moment at which the address first answered 200."""
    deadline = time.perf_counter() + 120
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                return time.perf_counter()
        except (urllib.error.URLError, OSError):
            time.sleep(0.01)
    raise RuntimeError(f"{path} did not answer within two minutes")


def multipart(image: bytes) -> bytes:
    """A form with the image in its field."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="f.jpg"\r\n\r\n'
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


@dataclass(slots=True)
class Outcome:
    """What a load of requests came to."""

    seconds: float = 0.0
    latencies: list[float] = field(
        default_factory=list
    )  # of answered images, in s, retries included
    turned_away: int = 0  # 503 with Retry-After; sent again
    failed: int = 0
    answered_before: int = 0  # images of the warm-up

    @property
    def per_second(self) -> float:
        """Images answered per second."""
        return len(self.latencies) / self.seconds


def send_load(server: Server, images: Sequence[bytes], clients: int, seconds: float) -> Outcome:
    """Closed loop: every client sends an image, waits for the answer and sends the next.

    A 503 is sent again after the time that its Retry-After names; the waiting counts.
    """
    bodies = [multipart(image) for image in images]
    outcome = Outcome()
    lock = threading.Lock()
    start = time.perf_counter()
    deadline = start + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        turn = number
        while time.perf_counter() < deadline:
            begin = time.perf_counter()
            status, away = _send(connection, server.key, bodies[turn % len(bodies)])
            with lock:
                outcome.turned_away += away
                if status == 201:
                    outcome.latencies.append(time.perf_counter() - begin)
                else:
                    outcome.failed += 1
            turn += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.seconds = time.perf_counter() - start
    return outcome


def _send(connection: http.client.HTTPConnection, key: str, body: bytes) -> tuple[int, int]:
    """Send until the image is answered or refused: (status, times turned away)."""
    headers = {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Authorization": f"Bearer {key}",
    }
    away = 0
    while True:
        connection.request("POST", "/api/v1/screenings", body, headers)
        answer = connection.getresponse()
        answer.read()
        retry_after = answer.headers.get("Retry-After")
        if answer.status != 503 or retry_after is None:
            return answer.status, away
        away += 1
        time.sleep(float(retry_after))
