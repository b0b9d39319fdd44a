"""Training a GAN: one loop for all objectives and networks, in one process or many.

A run is a folder: `options.json`, `metrics.jsonl` and `tensorboard/`, a grid of samples of each
evaluation in `samples/`, the state in `checkpoint.pt`, and `generator.safetensors`, the averaged
generator of the evaluation with the lowest KID. A run that was interrupted anywhere continues with
the same call and ends, on the same processor, with the very weights of an uninterrupted run; on a
GPU up to its rounding.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from ml.data.loading import ImageSet, load_images
from ml.data.manifest import ImageRecord, in_split, real_images
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, counted
from ml.gan.averaged_generator import refresh_batch_statistics
from ml.gan.checks import check_batch_size, check_options
from ml.gan.evaluation.features import IMAGENET, FeatureSpace, feature_space
from ml.gan.generator_card import GeneratorCard, TrainingMetrics
from ml.gan.generator_file import GENERATOR, save_generator
from ml.gan.monitor import SAMPLES, GanMonitor, require_diversity, require_finite
from ml.gan.step import TrainingImages, draw_step
from ml.gan.training_state import GanTrainingState
from ml.options.gan import GanOptions
from ml.training.distributed import ProcessGroup, join_process_group
from ml.training.metrics_log import MetricsLog
from ml.training.progress import TrainingBar
from ml.training.run_folder import CHECKPOINT, claim_folder, fingerprint
from ml.version import code_version

# Steps between two checks for finite numbers: each check makes a GPU wait.
STEPS_PER_CHECK = 20
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
        features: the feature space of KID; EfficientNet-Lite0 with ImageNet weights by default.
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
    budget, images_per_step = 60 * budget_minutes, options.batch_size * options.critic_steps
    with (
        MetricsLog(out, writes=group.is_first) as log,
        TrainingBar(options.steps, images_per_step, budget=budget, shown=group.is_first) as bar,
    ):
        state = _start_or_resume(out, options, group, log)
        if state.finished(budget):
            return _best_generator(out)
        train_set = _load(training, options, "training", quiet=not group.is_first)
        images = _on_device(train_set, options, group.device)
        monitor = None
        if group.is_first:
            valid_set = _load(validation, options, "validation", quiet=False)
            space = features or feature_space(IMAGENET, device=device)
            monitor = GanMonitor(train_set, valid_set, options, features=space, out=out, log=log)
        group.barrier()

        while not state.finished(budget):
            # Train until the next evaluation.
            watch, first_step = _Stopwatch(state.seconds), state.step
            while state.step < state.next_evaluation:
                state.advance(draw_step(images, options, state.step, group))
                bar.at(state.step, watch.seconds)
                if group.agree(bool(should_stop and should_stop())):
                    require_finite(state.pending[-STEPS_PER_CHECK:], state.step, out, group)
                    state.seconds = watch.seconds
                    _save(state, out, group)
                    return _best_generator(out)
                if group.agree(watch.seconds >= budget):
                    break
                if state.step % STEPS_PER_CHECK == 0:
                    recent = state.pending[-STEPS_PER_CHECK:]
                    bar.show_losses(require_finite(recent, state.step, out, group))
            require_finite(state.pending[-STEPS_PER_CHECK:], state.step, out, group)

            # Evaluate the averaged generator.
            seen = (state.step - first_step) * images_per_step
            row: dict[str, float] = {"step": state.step, "images": state.step * images_per_step}
            row |= state.mean_metrics(group)
            row["images_per_second"] = seen / max(watch.seconds - state.seconds, 1e-9)
            measured = {"kid": 0.0, "diversity": 0.0}
            if monitor:
                refresh_batch_statistics(state.average, images, options)
                measured = monitor.evaluate(state.average, state.step)
            # Only the first process has measured, and all must end at the same evaluation.
            row |= {name: group.of_first(value) for name, value in measured.items()}
            require_diversity([*state.rows, row], options, out)

            # Save the state, and the generator where it is the best so far.
            row["seconds"] = state.seconds = group.of_first(watch.seconds)
            state.rows.append(row)
            state.pending = []
            if monitor and state.best_row == len(state.rows):
                card = _card(train_set, options, row, monitor.features)
                save_generator(out / GENERATOR, state.average, card)
            _save(state, out, group)
            log.write(row, state.step)
            if on_tick and group.is_first:
                on_tick(row)
    return _best_generator(out)


class _Stopwatch:
    """Seconds since its start, added to those of earlier calls."""

    def __init__(self, before: float):
        self._before, self._start = before, time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._start


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


def _card(
    train_set: ImageSet, options: GanOptions, row: dict[str, float], features: FeatureSpace
) -> GeneratorCard:
    """The card of the generator that an evaluation measured."""
    return GeneratorCard(
        options=options,
        step=int(row["step"]),
        images_seen=int(row["images"]),
        images_sha256=fingerprint(train_set.records),
        images=dict(Counter(record.label for record in train_set.records)),
        code_version=code_version(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics=TrainingMetrics(kid=row["kid"], features=features.title),
    )


def _save(state: GanTrainingState, out: Path, group: ProcessGroup) -> None:
    if group.is_first:
        state.save(out / CHECKPOINT)


def _best_generator(out: Path) -> Path:
    path = out / GENERATOR
    if not path.exists():
        raise CheckpointError(
            f"{out} was stopped before its first evaluation, so it has no generator yet. Give the "
            "same command to continue."
        )
    return path
