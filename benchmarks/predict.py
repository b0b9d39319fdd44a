"""Images answered per second and their latency, against the plain way in the same run.

    python -m benchmarks.predict [--seconds 10]

Ours: upload, decode in a child process, standardise, classify with heat map, store the image,
commit the row, answer. Plain: decode, resize, eager DenseNet-121 (benchmarks/plain_server.py).
Images: 1024 x 1024 and 2048 x 2048 grey JPEG, quality 90. Client and server share the machine.
"""

import argparse
import io
import os
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table

from benchmarks.server import Outcome, Server, our_server, plain_server, send_load

SIDES = (1024, 2048)
CLIENTS = (1, 8, 64)


def radiograph(side: int, seed: int) -> bytes:
    """A JPEG with the look of an image: a bright body, dark lungs, ribs and grain."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    body = 170 + 40 * np.exp(-4 * x**2)
    for centre in (-0.42, 0.42):
        body[((x - centre) / 0.3) ** 2 + (y / 0.65) ** 2 < 1] -= 100
    body += 14 * (np.sin(24 * (y + 0.4 * x**2)) > 0.6)
    body += random.normal(0, 8, body.shape)
    image = Image.fromarray(np.clip(body, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(side / 1500)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure(server: Server, images: list[bytes], clients: int, seconds: float) -> Outcome:
    """One load after a short warm-up, which counts among the images sent."""
    warm_up = send_load(server, images, clients, 1.0)
    outcome = send_load(server, images, clients, seconds)
    outcome.answered_before = len(warm_up.latencies)
    return outcome


def committed(home: Path) -> int:
    """Rows in the embedded database."""
    with sqlite3.connect(home / "xray.db") as connection:
        count: int = connection.execute("SELECT count(*) FROM screening").fetchone()[0]
    connection.close()
    return count


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=10.0, help="length of each load")
    seconds = arguments.parse_args().seconds
    console = Console(width=120)
    console.print(f"{os.cpu_count()} cores, {seconds:.0f} s each")
    table = Table("image", "clients", "ours /s", "p50 ms", "p95 ms", "503", "failed", "plain /s",
                  "p50 ms", "p95 ms", "ratio")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, our_server(Path(folder)) as ours:
        answered = 0
        for side in SIDES:
            images = [radiograph(side, seed) for seed in range(4)]
            # Fresh for each size: after 64 clients at once it stays slow for a single one.
            with plain_server() as plain:
                for clients in CLIENTS:
                    mine = measure(ours, images, clients, seconds)
                    theirs = measure(plain, images, clients, seconds)
                    answered += mine.answered_before + len(mine.latencies)
                    table.add_row(
                        f"{side} px, {len(images[0]) // 1000} kB",
                        str(clients),
                        *_cells(mine),
                        str(mine.turned_away),
                        str(mine.failed),
                        *_cells(theirs),
                        f"{mine.per_second / theirs.per_second:.1f}",
                    )
        recorded = committed(ours.home)
    console.print(table)
    console.print(f"images answered with 201: {answered}, rows committed: {recorded}")


def _cells(outcome: Outcome) -> list[str]:
    p50, p95 = np.percentile(outcome.latencies, (50, 95)) * 1000
    return [f"{outcome.per_second:.1f}", f"{p50:.0f}", f"{p95:.0f}"]


if __name__ == "__main__":
    main()
