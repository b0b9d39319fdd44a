"""Training a GAN: one loop for all objectives and networks, in one process or many.

A run is a folder: `options.json`, `metrics.jsonl` and `tensorboard/`, a grid of samples of each
evaluation in `samples/`, the state in `checkpoint.pt`, and `generator.safetensors`, the averaged
generator of the evaluation with the lowest KID. A run that was interrupted anywhere continues with
the same call and ends, on the same processor, with the very weights of an uninterrupted run; on a
GPU up to its rounding. A file `finish-early` in the folder ends the training after one more
evaluation.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ml.data.loading import ImageSet, load_images
from ml.data.manifest import ImageRecord, in_split, real_images
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, counted
from ml.gan.averaged_generator import refresh_batch_statistics
from ml.gan.checks import check_batch_size, check_options
from ml.gan.evaluation.features import (
    IMAGENET,
    FeatureSpace,
    feature_space,
    unseen_spaces,
)
from ml.gan.generator_file import GENERATOR, save_generator
from ml.gan.monitor import SAMPLES, GanMonitor, require_diversity, require_finite
from ml.gan.step import TrainingImages, draw_step
from ml.gan.training_state import GanTrainingState
from ml.options.common import FINISH_EARLY
from ml.options.gan import GanOptions
from ml.training.distributed import ProcessGroup, join_process_group
from ml.training.metrics_log import MetricsLog
from ml.training.phases import enter_phase
from ml.training.progress import TrainingBar
from ml.training.run_folder import CHECKPOINT, claim_folder

# Steps between two checks for finite numbers: each check makes a GPU wait.
STEPS_PER_CHECK = 20
# A crash between two evaluations loses no more than this and some steps.
SECONDS_PER_CHECKPOINT = 60
OnTick = Callable[[dict[str, float]], None]
ShouldStop = Callable[[], bool]


def train_gan(
    records: Sequence[ImageRecord],
    out: Path,
    options: GanOptions,
    *,
    device: torch.device,
    features: FeatureSpace | None = None,
    budget_minutes: float = math.inf,
    on_tick: OnTick | None = None,
    should_stop: ShouldStop | None = None,
) -> Path:
    """Train on the training split, and choose the generator by KID against the validation split.

    Args:
        records: images of all splits and classes; those of the test split are not opened.
        out: the run's folder, visible to all hosts.
        options: everything that decides the result.
        device: where to compute. Processes that were started together share the work, and the
            first one writes.
        features: the feature space of KID; EfficientNet-Lite0 with ImageNet weights by default,
            or EfficientNet-Lite2 where the critic saw the former.
        budget_minutes: training time over all calls together; the run ends cleanly after it.
        on_tick: called with the metrics of every evaluation, in the first process.
        should_stop: asked after every step; true saves the state and ends the call.

    Returns:
        The file of the best generator so far.

    Raises:
        XrayError: options that do not fit together.
        TrainingFailed: training diverged or collapsed; the last good state and the best generator
            stay in `out`.
        DataError: images that are missing, unreadable or too few.
        CheckpointError: the folder holds a run with other options or images, or one that was
            stopped before its first evaluation.
    """
    check_options(options)
    training, validation = _images_of_classes(records, options)
    group = join_process_group(device)
    check_batch_size(options, group.world_size)
    if group.is_first:
        claim_folder(out, options, [*training, *validation])
    group.barrier()
    budget = 60 * budget_minutes
    with (
        MetricsLog(out, writes=group.is_first) as log,
        TrainingBar(
            options.steps, _images_per_step(options), budget=budget, shown=group.is_first
        ) as bar,
    ):
        state = _start_or_resume(out, options, group, log)
        if not state.finished(budget):
            if group.is_first:
                enter_phase(out, "reading")
                _say_resumed(state.step, options.steps)
            train_set = _load(training, options, "training", quiet=not group.is_first)
            images = _on_device(train_set, options, group.device)
            state.prepare(images)
            monitor = None
            if group.is_first:
                valid_set = _load(validation, options, "validation", quiet=False)
                (judge,) = unseen_spaces([IMAGENET], [options])
                space = features or feature_space(judge, device=device)
                monitor = GanMonitor(
                    train_set, valid_set, options, features=space, out=out, log=log
                )
                enter_phase(out, "training")
            group.barrier()
            _Loop(out, options, group, state, images, monitor, log, bar).run(
                budget, on_tick, should_stop
            )
    return _best_generator(out)


@dataclass
class _Loop:
    """Training and evaluation in turn; only the first process has a monitor."""

    out: Path
    options: GanOptions
    group: ProcessGroup
    state: GanTrainingState
    images: TrainingImages
    monitor: GanMonitor | None
    log: MetricsLog
    bar: TrainingBar

    def run(self, budget: float, on_tick: OnTick | None, should_stop: ShouldStop | None) -> None:
        """Train until the steps, the patience or the budget in seconds are used up, or stopped."""
        state = self.state
        is_over = False
        while not (is_over or state.finished(budget)):
            watch, first_step = _Stopwatch(state.seconds), state.step
            if not self._train(watch, budget, should_stop):
                return
            row = self._evaluate(state.step - first_step, watch)
            require_diversity([*state.rows, row], self.options, self.out)
            row["seconds"] = state.seconds = self.group.of_first(watch.seconds)
            self._keep(row)
            is_over = self._finishes_early()
            if on_tick and self.group.is_first:
                on_tick(row)

    def _train(self, watch: "_Stopwatch", budget: float, should_stop: ShouldStop | None) -> bool:
        """Train until the next evaluation; false where the call was stopped before it."""
        state, group = self.state, self.group
        saved = watch.seconds
        while state.step < state.next_evaluation:
            state.advance(draw_step(self.images, self.options, state.step, group))
            self.bar.at(state.step, watch.seconds)
            if group.agree(bool(should_stop and should_stop())):
                self._require_finite()
                state.seconds = watch.seconds
                self._save()
                return False
            if group.agree(watch.seconds >= budget) or self._finishes_early():
                break
            if state.step % STEPS_PER_CHECK == 0:
                self.bar.show_losses(self._require_finite())
                if group.agree(watch.seconds - saved >= SECONDS_PER_CHECKPOINT):
                    saved = watch.seconds
                    self._save_within(saved)
        self._require_finite()
        return True

    def _finishes_early(self) -> bool:
        """Whether a file in the run's folder asks for it: the next evaluation is the last one."""
        return self.group.agree((self.out / FINISH_EARLY).exists())

    def _require_finite(self) -> dict[str, float]:
        recent = self.state.pending[-STEPS_PER_CHECK:]
        return require_finite(recent, self.state.step, self.out, self.group)

    def _evaluate(self, steps: int, watch: "_Stopwatch") -> dict[str, float]:
        """The metrics of the steps since the last evaluation, and of the averaged generator now."""
        state, images_per_step = self.state, _images_per_step(self.options)
        row: dict[str, float] = {"step": state.step, "images": state.step * images_per_step}
        row |= state.mean_metrics(self.group)
        seconds = max(watch.seconds - state.seconds, 1e-9)
        row["images_per_second"] = steps * images_per_step / seconds
        measured = {"kid": 0.0, "diversity": 0.0}
        if self.monitor:
            refresh_batch_statistics(state.average, self.images, self.options)
            measured = self.monitor.evaluate(state.average, state.step)
        # Only the first process has measured, and all must end at the same evaluation.
        return row | {name: self.group.of_first(value) for name, value in measured.items()}

    def _keep(self, row: dict[str, float]) -> None:
        """Save the state, and the generator where it is the best so far."""
        state = self.state
        state.rows.append(row)
        state.pending = []
        if self.monitor and state.best_row == len(state.rows):
            save_generator(self.out / GENERATOR, state.average, self.monitor.generator_card(row))
        self._save()
        self.log.write(row, state.step)

    def _save_within(self, seconds: float) -> None:
        """Save between two evaluations; the speed of the next one is since the last one still."""
        last = self.state.seconds
        self.state.seconds = seconds
        self._save()
        self.state.seconds = last

    def _save(self) -> None:
        if self.group.is_first:
            self.state.save(self.out / CHECKPOINT)


class _Stopwatch:
    """Seconds since its start, added to those of earlier calls."""

    def __init__(self, before: float):
        self._before, self._start = before, time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._start


def _images_per_step(options: GanOptions) -> int:
    """Real images that the critic sees in a step."""
    return options.batch_size * options.critic_steps


def _images_of_classes(
    records: Sequence[ImageRecord], options: GanOptions
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """The real training and validation images of the classes to learn."""
    wanted = [r for r in real_images(records) if r.label in options.label_names]
    training, validation = (in_split(wanted, part) for part in (Split.TRAIN, Split.VALIDATION))
    missing = set(options.label_names) - {record.label for record in training}
    if missing:
        raise DataError(
            f"The training split has no image of {', '.join(sorted(missing))}. Add some, or give "
            "other --labels."
        )
    return training, validation


def _say_resumed(step: int, steps: int) -> None:
    if step:
        print(f"resuming after step {step:,} of {steps:,}", flush=True)


def _start_or_resume(
    out: Path, options: GanOptions, group: ProcessGroup, log: MetricsLog
) -> GanTrainingState:
    """The state in the run's checkpoint, or a new one; files that do not belong to it go."""
    state = GanTrainingState(options, group)
    if (out / CHECKPOINT).exists():
        state.load(out / CHECKPOINT, group.device)
        log.rewrite(state.rows)
        return state
    if group.is_first:
        (out / GENERATOR).unlink(missing_ok=True)
        for path in (out / SAMPLES).glob("*.png"):
            path.unlink()
        log.rewrite([])
    group.barrier()
    return state


def _load(
    records: Sequence[ImageRecord], options: GanOptions, part: str, *, quiet: bool
) -> ImageSet:
    """Images at the run's size, without smaller ones: enlarged images teach blur."""
    return load_images(
        records, options.size, title=f"reading {part} images", quiet=quiet, enlarge=False
    )


def _on_device(train_set: ImageSet, options: GanOptions, device: torch.device) -> TrainingImages:
    """The training images on the device; each class is drawn equally often.

    Within a class all images are equally likely: their mix is what the generator learns.
    """
    if len(train_set) < options.batch_size:
        raise DataError(
            f"A batch of {options.batch_size} needs as many training images, and there are only "
            f"{counted(len(train_set), 'image')}. Give a smaller --batch-size, or add images."
        )
    classes = torch.from_numpy(train_set.numbers_in(options.label_names))
    chances = (1 / torch.bincount(classes).double())[classes]
    return TrainingImages(torch.from_numpy(train_set.images).to(device), classes, chances)


def _best_generator(out: Path) -> Path:
    path = out / GENERATOR
    if not path.exists():
        raise CheckpointError(
            f"{out} was stopped before its first evaluation, so it has no generator yet. Give the "
            "same command to continue."
        )
    return path
