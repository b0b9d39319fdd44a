"""Progress of commands: a bar at a terminal, elsewhere a line now and then, always on stderr.

What ends within two seconds prints no line, so that quick commands stay quiet in scripts.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

FIRST_LINE_S = 2.0
LINE_EVERY_S = 10.0
Item = TypeVar("Item")


class Counter:
    """How much of a piece of work is done.

    Attributes:
        title: what is being done, such as "reading images".
        total: of how many; None where that is not known.
        done: so many.
        note: what else is to be said, such as a loss.
    """

    def __init__(self, title: str, total: int | None):
        self.title, self.total = title, total
        self.done = 0
        self.note = ""
        self._began = time.monotonic()

    def advance(self, by: int = 1, note: str = "") -> None:
        """Count what is done."""
        self.done += by
        self.note = note or self.note

    def line(self) -> str:
        """The state in a line."""
        seconds = time.monotonic() - self._began
        parts = [_duration(seconds)]
        if self.total is not None:
            parts.insert(0, f"{self.done:,} of {self.total:,}")
            if 0 < self.done < self.total:
                left = seconds / self.done * (self.total - self.done)
                parts.append(f"about {_duration(left)} left")
        elif self.done:
            parts.insert(0, f"{self.done:,}")
        return f"{self.title}: {', '.join([*parts, *filter(None, [self.note])])}"


@contextmanager
def progress(title: str, total: int | None = None, *, hidden: bool = False) -> Iterator[Counter]:
    """Show the progress of the work in this block.

    Args:
        title: what is being done, such as "reading images".
        total: of how many; None where that is not known.
        hidden: shows nothing, as of several processes one shows it.
    """
    counter = Counter(title, total)
    if hidden:
        yield counter
    elif sys.stderr.isatty():
        with _bar(counter):
            yield counter
    else:
        with _lines(counter):
            yield counter


def tracked(items: Iterable[Item], title: str, *, hidden: bool = False) -> Iterator[Item]:
    """Go through items and show how many are done."""
    total = len(items) if isinstance(items, Sized) else None
    with progress(title, total, hidden=hidden) as counter:
        for item in items:
            yield item
            counter.advance()


@contextmanager
def _bar(counter: Counter) -> Iterator[None]:
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TimeRemainingColumn(), TextColumn("{task.fields[note]}")]
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(counter.title, total=counter.total, note="")

        def show() -> None:
            shown.update(task, completed=counter.done, total=counter.total, note=counter.note)

        with _called_regularly(show, 0.1, 0.1):
            yield


@contextmanager
def _lines(counter: Counter) -> Iterator[None]:
    printed = False

    def show() -> None:
        nonlocal printed
        printed = True
        print(counter.line(), file=sys.stderr, flush=True)

    with _called_regularly(show, FIRST_LINE_S, LINE_EVERY_S):
        yield
    # Not where the block failed: then the error says what there is to say.
    if printed:
        show()


@contextmanager
def _called_regularly(show: Callable[[], None], first_s: float, every_s: float) -> Iterator[None]:
    """Call a function from a thread, also while the work does not come back for long."""
    over = threading.Event()

    def call() -> None:
        wait = first_s
        while not over.wait(wait):
            show()
            wait = every_s

    thread = threading.Thread(target=call, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _duration(seconds: float) -> str:
    """A time as people say it: 8 s, 3:20 min, 2:05 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
