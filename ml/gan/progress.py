"""The bar of a training run: how far, how fast, how long still, how the game stands."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingBar:
    """A progress bar over generator steps; nothing where it is not shown."""

    def __init__(self, steps: int, films_per_step: int, *, budget: float, shown: bool):
        """Prepare a bar.

        Args:
            steps: of the whole run.
            films_per_step: real films that the critic sees in a step.
            budget: seconds after which the run ends, however many steps are done.
            shown: of several processes one shows it.
        """
        self._steps, self._films_per_step, self._budget = steps, films_per_step, budget
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[game]}"),
            transient=True,
            disable=not shown,
        )
        self._task = self._progress.add_task("", total=steps, speed="", game="")

    def at(self, step: int, seconds: float) -> None:
        """Show that this many steps are done, and how many there will be at this pace.

        Args:
            step: of the whole run.
            seconds: that they have taken.
        """
        total = min(self._steps, max(step, step * self._budget / seconds))
        speed = self._progress.tasks[0].speed
        shown = f"{speed * self._films_per_step:.0f} films/s" if speed else ""
        self._progress.update(self._task, completed=step, total=round(total), speed=shown)

    def game(self, figures: Mapping[str, float]) -> None:
        """Show how the game stands; figures by the names of `ml.gan.step.Figures`."""
        text = (
            f"W {figures['wasserstein']:.3g}, penalty {figures['penalty']:.3g}, gradients "
            f"{figures['critic_gradient']:.2g} and {figures['generator_gradient']:.2g}"
        )
        self._progress.update(self._task, game=text)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
