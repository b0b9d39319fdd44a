"""The metrics of a run as it goes: lines of JSON for programs, event files for TensorBoard."""

import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ml.json_model import finite
from ml.legacy import rename_keys

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter
METRICS = "metrics.jsonl"
EVENTS = "tensorboard"


class MetricsLog:
    """Writes `metrics.jsonl` and `tensorboard/` in a run's folder.

    What is written first at a step hides everything that an earlier process wrote from that step
    on, so a run that repeats an interrupted epoch shows each point once.
    """

    def __init__(self, folder: Path, *, writes: bool = True):
        """Write nothing yet.

        Args:
            folder: the run's folder, which exists.
            writes: false makes every method do nothing: of several processes one writes.
        """
        self._folder = folder
        self._writes = writes
        self._events: SummaryWriter | None = None

    def write(self, row: dict[str, float], step: int) -> None:
        """Append a row, on disk when this returns.

        Args:
            row: metrics by name.
            step: where they stand in the charts: epochs, or steps, but one of them in a run.
        """
        if not self._writes:
            return
        with (self._folder / METRICS).open("a") as log:
            log.write(json.dumps(row) + "\n")
        if events := self._writer(step):
            for name, value in row.items():
                events.add_scalar(name, value, step)
            events.flush()

    def images(self, name: str, grid: NDArray[np.uint8], step: int) -> None:
        """Show a picture in TensorBoard; the run's folder gets no file of it.

        Args:
            name: what it shows; pictures of one name follow each other.
            grid: (H, W) grey levels.
            step: as in `write`.
        """
        if not self._writes:
            return
        if events := self._writer(step):
            events.add_image(name, grid, step, dataformats="HW")
            events.flush()

    def rewrite(self, rows: Sequence[dict[str, float]]) -> None:
        """Replace all rows: a crash may have come between a checkpoint and the log.

        Args:
            rows: those of the checkpoint that the run resumes from.
        """
        if self._writes:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (self._folder / METRICS).write_text(text)

    def close(self) -> None:
        """Finish the event file, if there is one."""
        if self._events:
            self._events.close()
            self._events = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _writer(self, step: int) -> "SummaryWriter | None":
        """The event file, begun at the first step that writes to it."""
        if self._events is None and (writer := _summary_writer()):
            self._events = writer(str(self._folder / EVENTS), purge_step=step)
        return self._events


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows that a run has written to `metrics.jsonl`, none where it has written nothing yet.

    Metrics that JSON cannot say are None.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [finite(rename_keys(json.loads(line))) for line in lines]


@cache
def _summary_writer() -> "type[SummaryWriter] | None":
    """TensorBoard's writer, or None, said once, where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print(
            "TensorBoard is not installed, no event files are written: pip install tensorboard",
            file=sys.stderr,
        )
        return None
    return SummaryWriter
