"""Lines that say how far a backup is, on terminals and in logs alike."""

import time

_EVERY_S = 5.0


class ProgressLines:
    """Counts files, and prints a line every few seconds and at the end."""

    def __init__(self, what: str) -> None:
        """Begin to count.

        Args:
            what: the first word of each line.
        """
        self._what = what
        self._files = self._bytes = self._new = 0
        self._next = time.monotonic() + _EVERY_S

    def add(self, size: int, written: int) -> None:
        """Count one file of `size` bytes, of which `written` were new."""
        self._files += 1
        self._bytes += size
        self._new += written
        if time.monotonic() >= self._next:
            self.print()
            self._next = time.monotonic() + _EVERY_S

    def print(self) -> None:
        """Print the present state."""
        print(
            f"{self._what}: {self._files:,} files, {as_mb(self._bytes)}, "
            f"{as_mb(self._new)} written",
            flush=True,
        )


def as_mb(size: int) -> str:
    """A size in megabytes, for people."""
    return f"{size / 1e6:,.1f} MB"
