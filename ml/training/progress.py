"""Progress of a run: a bar or lines, and rows of metrics in a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from ml.progress import progress
from ml.training.metrics_log import METRICS


class ImageLog:
    """How many images are there, as rows of `metrics.jsonl`: step, of, seconds, images_per_second.

    A call that resumes an earlier one counts its images again and adds to its seconds.
    """

    def __init__(self, folder: Path, of: int):
        """Start the file again.

        Args:
            folder: of the file; it is made where it is missing.
            of: how many images there are to be.
        """
        self._path, self._of, self._images = folder / METRICS, of, 0
        self._before = _last_seconds(self._path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("", encoding="utf-8")
        self.add(0, 0.0)

    def add(self, images: int, seconds: float) -> None:
        """Say that there are some images more, and how long all of this call have taken."""
        self._images += images
        row: dict[str, float] = {"step": self._images, "of": self._of}
        row["seconds"] = round(self._before + seconds, 3)
        if row["seconds"]:
            row["images_per_second"] = round(self._images / row["seconds"], 3)
        with self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")


def _last_seconds(path: Path) -> float:
    """The seconds of the last whole row; none where there is no such row."""
    if not path.exists():
        return 0.0
    # A killed process may have left half a row.
    rows = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
    try:
        return float(json.loads(rows.rpartition("\n")[2])["seconds"])
    except (ValueError, KeyError, TypeError):
        return 0.0


class TrainingBar:
    """Progress over generator steps; nothing where it is not shown."""

    def __init__(self, steps: int, images_per_step: int, *, budget: float, shown: bool):
        """Prepare a bar.

        Args:
            steps: of the whole run.
            images_per_step: real images that the critic sees in a step.
            budget: seconds after which the run ends, however many steps are done.
            shown: of several processes one shows it.
        """
        self._steps, self._images_per_step, self._budget = steps, images_per_step, budget
        self._shown = progress("training, steps", steps, hidden=not shown)

    def at(self, step: int, seconds: float) -> None:
        """Show that this many steps are done, and how many there will be at this pace.

        Args:
            step: of the whole run.
            seconds: that they have taken.
        """
        counter = self._counter
        counter.total = round(min(self._steps, max(step, step * self._budget / seconds)))
        counter.done = step
        self._speed = f"{step * self._images_per_step / seconds:.0f} images/s"
        self._note()

    def show_losses(self, metrics: Mapping[str, float]) -> None:
        """Show losses and gradients; metrics by the names of `ml.gan.step.StepMetrics`."""
        self._losses = (
            f"W {metrics['wasserstein']:.3g}, penalty {metrics['penalty']:.3g}, gradients "
            f"{metrics['critic_gradient']:.2g} and {metrics['generator_gradient']:.2g}"
        )
        self._note()

    def _note(self) -> None:
        self._counter.note = ", ".join(filter(None, (self._speed, self._losses)))

    def __enter__(self) -> Self:
        self._counter = self._shown.__enter__()
        self._speed = self._losses = ""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shown.__exit__(kind, problem, trace)
