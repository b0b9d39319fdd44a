"""Mutated files and forms over HTTP to a real server: no error 500, no dead server, bounds kept.

    python -m benchmarks.damaged_uploads [--files 2000] [--seed 0]

Each mutated file goes to the API, the upload page's script or its plain form; every fifth time the
form itself is mutated. Where an upload is answered, its page and pictures are fetched too. A status
that no client deserves ends the run and names the file with the request.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil
from httpx2 import Client, Response
from rich.console import Console
from rich.progress import track

from benchmarks.damaged_files import mutated, seeds
from benchmarks.server import BOUNDARY, our_server

# What a sender of anything may get: answered, or refused for a reason that the answer names.
ALLOWED = frozenset((200, 201, 303, 400, 411, 413, 415, 422))
_LIMITS = {"XRAY_VISITOR_UPLOADS_PER_MINUTE": "1000000", "XRAY_VISITOR_QUOTA_MB": "100000"}


class Sender(Protocol):
    """A client that follows no redirect."""

    def get(self, url: str, *, headers: Mapping[str, str]) -> Response:
        """Get a page."""

    def post(self, url: str, *, content: bytes, headers: Mapping[str, str]) -> Response:
        """Send a body."""


@dataclass(slots=True)
class Fuzz:
    """A series of mutated uploads.

    Attributes:
        sender: sends them.
        key: of the API.
        random: decides on everything.
        outcomes: how often each status was the answer, by the way in.
        slowest: the longest time to an answer, in seconds.
    """

    sender: Sender
    key: str
    random: np.random.Generator
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    def send(self, number: int, files: Mapping[str, bytes]) -> None:
        """Mutate and send one file, and look at its result.

        Raises:
            AssertionError: the answer is one that no client deserves.
        """
        name = list(files)[number % len(files)]
        content = mutated(files[name], self.random)
        # Not in step with the files, so that each comes in by each way.
        way = ("api", "script", "form")[number // len(files) % 3]
        url = "/api/v1/screenings" if way == "api" else "/screenings"
        headers = {
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Accept": "text/html",
        }
        if way == "api":
            headers["Authorization"] = f"Bearer {self.key}"
        if way != "form":
            headers["Accept"] = "application/json"
        body = self._form(content)
        begun = time.monotonic()
        answer = self.sender.post(url, content=body, headers=headers)
        self._check(answer, f"{name} by {way}", body)
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.outcomes[f"{way}: {answer.status_code}"] += 1
        for address in _addresses(answer):
            shown = self.sender.get(
                address, headers={"Authorization": headers.get("Authorization", "")}
            )
            self._check(shown, f"{address} of {name}", body)
            assert shown.status_code == 200, f"{address} of {name}: {shown.status_code}"

    def _form(self, content: bytes) -> bytes:
        """A form with the file and a reference of any bytes; every fifth is mutated itself."""
        reference = self.random.bytes(int(self.random.integers(0, 20)))
        file_name = self.random.bytes(6).translate(None, b'"\r\n')
        part = f"--{BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
        body = b"".join(
            (
                part + b'name="reference"\r\n\r\n' + reference + b"\r\n",
                part + b'name="image"; filename="' + file_name + b'"\r\n\r\n' + content,
                f"\r\n--{BOUNDARY}--\r\n".encode(),
            )
        )
        return mutated(body, self.random) if self.random.random() < 0.2 else body

    def _check(self, answer: Response, what: str, body: bytes) -> None:
        if answer.status_code not in ALLOWED:
            with tempfile.NamedTemporaryFile(prefix="upload-", delete=False) as kept:
                kept.write(body)
            detail = f"status {answer.status_code}, body in {kept.name}: {answer.text[:500]}"
            raise AssertionError(f"{what}: {detail}")


def _addresses(answer: Response) -> list[str]:
    """Where an answered upload is seen."""
    if answer.status_code == 303:
        page = answer.headers["location"]
        return [page] if page == "/screenings" else [page, f"{page}/image", f"{page}/thumbnail"]
    if answer.status_code == 201:
        shown = answer.json()
        found = [shown.get(name) for name in ("url", "heatmap_url", "thumbnail_url")]
        return [address for address in found if address]
    return []


def memory_mb(process: psutil.Process) -> float:
    """Resident memory of a process and its children, in MB."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def main() -> None:
    """Fuzz and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random, console = np.random.default_rng(options.seed), Console(width=100)
    files = seeds(random)
    with (
        tempfile.TemporaryDirectory() as home,
        our_server(Path(home), _LIMITS) as server,
        Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client,
    ):
        fuzz = Fuzz(client, server.key, random)
        process = psutil.Process(server.process.pid)
        before = most = memory_mb(process)
        for number in track(range(options.files), "sending", console=Console(stderr=True)):
            fuzz.send(number, files)
            if number % 20 == 0:
                most = max(most, memory_mb(process))
            assert server.process.poll() is None, "the server ended"
        assert client.get("/readyz").status_code == 200
        after = memory_mb(process)
    for outcome, count in sorted(fuzz.outcomes.items()):
        console.print(f"{outcome}: {count:,}")
    console.print(f"slowest answer: {fuzz.slowest:.2f} s")
    console.print(f"memory: {before:.0f} MB before, {most:.0f} MB at most, {after:.0f} MB after")


if __name__ == "__main__":
    main()
