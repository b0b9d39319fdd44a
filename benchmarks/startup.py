"""How quickly the web process starts and how much memory it keeps.

    python -m benchmarks.startup

From starting `xray serve` to the first answered request, the first time (the database is made)
and the second; resident memory of the web process after its first prediction, and with its
decoding children.
"""

import statistics
import tempfile
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.predict import radiograph
from benchmarks.server import Server, our_server, send_load

STARTS = 5


def resident_mb(server: Server) -> tuple[float, float]:
    """Memory of the web process alone, and of it and its children; pages shared count each time."""
    process = psutil.Process(server.process.pid)
    own = process.memory_info().rss
    children = sum(child.memory_info().rss for child in process.children(recursive=True))
    return own / 1e6, (own + children) / 1e6


def main() -> None:
    """Measure and print."""
    images = [radiograph(2048, 0)]
    first: list[Server] = []
    second: list[Server] = []
    memory: list[tuple[float, float]] = []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            with our_server(Path(folder)) as server:
                first.append(server)
                send_load(server, images, 1, 0.01)
                memory.append(resident_mb(server))
            with our_server(Path(folder)) as server:
                second.append(server)
    table = Table("start", "to first answer, s", "to first image answerable, s")
    for name, servers in (("first", first), ("second", second)):
        table.add_row(
            name,
            f"{statistics.median(one.first_answer_s for one in servers):.2f}",
            f"{statistics.median(one.ready_s for one in servers):.2f}",
        )
    console = Console()
    console.print(f"median of {STARTS}")
    console.print(table)
    own, together = (statistics.median(column) for column in zip(*memory, strict=True))
    console.print(f"resident after the first prediction: {own:.0f} MB web process, ", end="")
    console.print(f"{together:.0f} MB with the decoding children")


if __name__ == "__main__":
    main()
