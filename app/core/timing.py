"""Measuring how long consecutive steps take."""

import time


class Stopwatch:
    """Milliseconds of consecutive steps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a step, which began at the end of the one before."""
        moment = time.perf_counter()
        self.laps[name] = round((moment - self._last) * 1000, 2)
        self._last = moment
