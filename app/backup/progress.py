"""How far a backup is: shown while it runs, and said in a line at the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from ml.progress import Counter, progress


class FileCount:
    """Counts files and their bytes.

    Args:
        what: the files, the first word of the line.
        counter: of the progress that is shown.
    """

    def __init__(self, what: str, counter: Counter) -> None:
        self._what, self._counter = what, counter
        self._bytes = self._new = 0

    def add(self, size: int, written: int) -> None:
        """Count one file of `size` bytes, of which `written` were new."""
        self._bytes += size
        self._new += written
        self._counter.advance(note=self._sizes())

    def line(self) -> str:
        """All that was counted."""
        return f"{self._what}: {self._counter.done:,} files, {self._sizes()}"

    def _sizes(self) -> str:
        return f"{as_mb(self._bytes)}, {as_mb(self._new)} written"


@contextmanager
def counted_files(what: str) -> Iterator[FileCount]:
    """Count files, show how far it is, and print a line of all at the end."""
    with progress(what) as counter:
        count = FileCount(what, counter)
        yield count
    print(count.line(), flush=True)


def as_mb(size: int) -> str:
    """A size in megabytes, for people."""
    return f"{size / 1e6:,.1f} MB"
