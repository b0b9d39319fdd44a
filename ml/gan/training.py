"""Training a GAN: one loop for all objectives and networks, on one process or many.

A run is a folder: `options.json`, `metrics.jsonl` and `tensorboard/`, a grid of samples of each
tick in `samples/`, the state in `checkpoint.pt`, and `generator.safetensors`, the averaged
generator of the tick with the lowest KID. Interrupted anywhere, the same call continues and ends,
on the same processor, with the very weights of an uninterrupted run; on a GPU up to its rounding.
"""

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ml.data.loading import ImageSet, load_images
from ml.data.manifest import ImageRecord, in_split, real_images
from ml.data.splits import Split
from ml.errors import CheckpointError, Collapsed, DataError, Diverged, XrayError
from ml.gan.checks import check_options
from ml.gan.evaluation.distances import diversity, pixel_points
from ml.gan.evaluation.features import IMAGENET, FeatureSpace, feature_space
from ml.gan.evaluation.kid import kid
from ml.gan.evaluation.patient_groups import LEAST_IMAGES
from ml.gan.generator_card import GeneratorCard, TrainingMetrics
from ml.gan.generator_file import GENERATOR, save_generator
from ml.gan.networks import STD_GROUP, build_critic, build_generator
from ml.gan.sampling import sample_images, sample_sheet
from ml.gan.step import AdversarialStep, GreyImages, StepMetrics, draw_step, prefer_speed
from ml.legacy import rename_weights
from ml.options import GanOptions
from ml.training.checkpoint import load_checkpoint, save_checkpoint
from ml.training.distributed import ProcessGroup, join_process_group
from ml.training.metrics_log import MetricsLog
from ml.training.progress import TrainingBar
from ml.training.run_folder import CHECKPOINT, claim_folder, fingerprint
from ml.training.synchronised_layers import synchronise_layers
from ml.version import code_version

SAMPLES = "samples"
MOST_GRIDS = 200
TICK_IMAGES = 256  # most samples behind a tick's KID
# More samples for each real image would hardly narrow the KID, and each takes time to embed.
TICK_IMAGES_PER_REAL = 4
# Seeds of the ticks' KID: apart from those that a person types and looks at.
FIRST_TICK_SEED = 1_000_000_000
# Ticks in a row under the bound of diversity that mean collapse.
COLLAPSED_TICKS = 3
# Steps between two looks at whether all is finite: a look makes a GPU wait.
STEPS_PER_CHECK = 20
NORM_BATCHES, NORM_BATCH = 16, 64
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
    """Train on the training split, choose by KID against the validation split.

    Args:
        records: images of all splits and classes; the test split is not opened.
        out: the run's folder, seen by all hosts.
        options: all that decides the result.
        device: where to compute. Processes that were started together share the work, and the
            first one writes.
        features: where KID is measured; EfficientNet-Lite0 with ImageNet weights by default.
        budget_minutes: time to train for, over all calls together; the run ends cleanly there.
        on_tick: called with the metrics of every tick, in the first process.
        should_stop: asked after every step; a true answer saves the state and ends the call.

    Returns:
        The file of the best generator so far.

    Raises:
        XrayError: options that do not fit together.
        TrainingFailed: it diverged or collapsed; the last good state and the best generator stay.
        DataError: images that are missing, unreadable or too few.
        CheckpointError: the folder holds a run with other options or images, or one that was
            stopped before its first tick.
    """
    check_options(options)
    training, validation = _chosen_images(records, options)
    group = join_process_group(device)
    if options.batch_size % group.world_size:
        raise XrayError(
            f"a batch of {options.batch_size} images cannot be shared by {group.world_size} "
            "processes: give a multiple as --batch-size"
        )
    if options.batch_std and options.batch_size // group.world_size % STD_GROUP:
        raise XrayError(
            f"--batch-std looks at groups of {STD_GROUP} images: give a --batch-size that is a "
            f"multiple of {STD_GROUP * group.world_size} for {group.world_size} process(es)"
        )
    if group.is_first:
        claim_folder(out, options, [*training, *validation])
    group.barrier()
    images_per_step, budget = options.batch_size * options.critic_steps, budget_minutes * 60
    with (
        MetricsLog(out, writes=group.is_first) as log,
        TrainingBar(options.steps, images_per_step, budget=budget, shown=group.is_first) as bar,
    ):
        run = _Run(out, options, group, log, bar, budget)
        run.resume()
        if not run.finished:
            run.open_images(training, validation, features)
        while not run.finished and run.steps_to_next_tick(should_stop):
            row = run.tick()
            if on_tick and group.is_first:
                on_tick(row)
    if not (out / GENERATOR).exists():
        raise CheckpointError(f"{out} was stopped before its first tick: there is no generator yet")
    return out / GENERATOR


def _chosen_images(
    records: Sequence[ImageRecord], options: GanOptions
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """The training and validation images of the classes to learn, of people alone."""
    wanted = [r for r in real_images(records) if r.label in options.label_names]
    training, validation = (in_split(wanted, part) for part in (Split.TRAIN, Split.VALIDATION))
    missing = set(options.label_names) - {record.label for record in training}
    if missing:
        raise DataError(f"the training split has no image of {', '.join(sorted(missing))}")
    return training, validation


class _Run:
    """The state of one training run and the work of one tick."""

    def __init__(
        self,
        out: Path,
        options: GanOptions,
        group: ProcessGroup,
        log: MetricsLog,
        bar: TrainingBar,
        budget: float,
    ):
        self.out, self.options, self.group = out, options, group
        self.log, self.bar, self.budget = log, bar, budget
        prefer_speed(group.device)
        torch.manual_seed(options.seed)
        generator, critic = build_generator(options), build_critic(options)
        # A copy without shared layers: the first process measures it alone.
        self.average = copy.deepcopy(generator).to(group.device).requires_grad_(False)
        self.generator = synchronise_layers(generator.to(group.device), group).train()
        self.critic = synchronise_layers(critic.to(group.device), group).train()
        self.update = AdversarialStep(self.generator, self.critic, options, group)
        self.step = 0
        self.seconds = 0.0
        self.rows: list[dict[str, float]] = []
        self.pending: list[Tensor] = []  # metrics of the steps since the last tick, (6,) each
        self.best_kid, self.best_tick = math.inf, 0
        self.low_ticks = 0
        self.started = time.monotonic()

    @property
    def finished(self) -> bool:
        if self.pending:  # stopped on the very step of a tick
            return False
        waited = len(self.rows) - self.best_tick
        tired = 0 < self.options.patience <= waited
        return self.step >= self.options.steps or tired or self.seconds >= self.budget

    def resume(self) -> None:
        """Continue from the checkpoint where there is one."""
        path = self.out / CHECKPOINT
        if not path.exists():
            self._clear()
            return
        state = load_checkpoint(path)
        try:
            self.generator.load_state_dict(rename_weights(state["generator"]))
            self.critic.load_state_dict(rename_weights(state["critic"]))
            self.average.load_state_dict(rename_weights(state["average"]))
            self.update.generator_optimizer.load_state_dict(state["generator_optimizer"])
            self.update.critic_optimizer.load_state_dict(state["critic_optimizer"])
            self.pending = list(state["pending"].to(self.group.device))
            self.best_kid, self.best_tick = state["best_kid"], state["best_tick"]
            self.step, self.seconds = state["step"], state["seconds"]
            self.low_ticks, self.rows = state["low_ticks"], state["rows"]
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as problem:
            raise CheckpointError(
                f"{path} is of another network or version: give another --out"
            ) from problem
        self.log.rewrite(self.rows)

    def _clear(self) -> None:
        """Take away what a run without a checkpoint left: it must not pass for this one's."""
        if self.group.is_first:
            (self.out / GENERATOR).unlink(missing_ok=True)
            for path in (self.out / SAMPLES).glob("*.png"):
                path.unlink()
            self.log.rewrite([])
        self.group.barrier()

    def open_images(
        self,
        training: Sequence[ImageRecord],
        validation: Sequence[ImageRecord],
        features: FeatureSpace | None,
    ) -> None:
        """Put the training images on the device, and embed those that KID is measured against."""
        options, device = self.options, self.group.device
        train_set = _load(training, options, "training", quiet=not self.group.is_first)
        if len(train_set) < options.batch_size:
            raise DataError(
                f"{len(train_set)} training image(s) do not fill a batch of {options.batch_size}: "
                "give a smaller --batch-size, or more images"
            )
        self.train_set = train_set
        classes = torch.from_numpy(train_set.numbers_in(options.label_names))
        # Every class as often; within one, images as they are: their mix is what is to be learned.
        chances = (1 / torch.bincount(classes).double())[classes]
        self.images = GreyImages(torch.from_numpy(train_set.images).to(device), classes, chances)
        self.real_points = pixel_points(train_set.images[:: max(1, len(train_set) // 512)])
        if self.group.is_first:
            valid_set = _load(validation, options, "validation", quiet=False)
            if len(valid_set) < LEAST_IMAGES:
                raise DataError(
                    f"the validation split has {len(valid_set)} image(s) of {options.labels}, and "
                    f"KID needs {LEAST_IMAGES}: give images of more patients"
                )
            self.features = features or feature_space(IMAGENET, device=device)
            self.real_embeddings = self.features.embed(valid_set.images)
            # Mixed, so that the first ones of a long list have the classes of the whole.
            mixed = np.random.default_rng(options.seed).permutation(len(valid_set))
            self.real_classes = valid_set.numbers_in(options.label_names)[mixed]
        self.group.barrier()

    def steps_to_next_tick(self, should_stop: ShouldStop | None) -> bool:
        """Train until a tick is due. False where the call was stopped; the state is saved then."""
        options = self.options
        self.started, self.first_step = time.monotonic(), self.step
        last = int(self.rows[-1]["step"]) if self.rows else 0
        due = min(
            options.steps, (last // options.evaluation_interval + 1) * options.evaluation_interval
        )
        while self.step < due:
            draws = draw_step(self.images, options, self.step, self.group)
            self.pending.append(torch.stack(list(self.update(draws, self.step))))
            self.step += 1
            self._update_average()
            self.bar.at(self.step, self.seconds + self._elapsed())
            if self.group.agree(bool(should_stop and should_stop())):
                self._check_finite()
                self._save()
                return False
            if self.group.agree(self.seconds + self._elapsed() >= self.budget):
                break
            if self.step % STEPS_PER_CHECK == 0:
                self._check_finite()
        self._check_finite()
        return True

    def tick(self) -> dict[str, float]:
        """Measure, show and save where the run stands."""
        images = (self.step - self.first_step) * self._images_per_step
        speed = images / max(self._elapsed(), 1e-9)
        # Each process knows the losses of its own images.
        means = self.group.sum(torch.stack(self.pending).mean(dim=0)).double()
        means /= self.group.world_size
        row: dict[str, float] = {"step": self.step, "images": self.step * self._images_per_step}
        row |= dict(zip(StepMetrics._fields, means.tolist(), strict=True))
        row["images_per_second"] = speed
        self.pending = []
        problem = ""
        if self.group.is_first:
            self._refresh_norms()
            row |= self._measure()
            problem = self._collapse(row["diversity"])
        if self.group.agree(bool(problem)):
            raise Collapsed(problem or "the run was stopped by its first process")
        # Each process has a clock of its own, and all must end at the same tick.
        row["seconds"] = self.seconds = self.group.of_first(self.seconds + self._elapsed())
        self.started = time.monotonic()
        self.rows.append(row)
        if row.get("kid", math.inf) < self.best_kid:
            self.best_kid, self.best_tick = row["kid"], len(self.rows)
            self._save_best(row)
        self._save()
        self.log.write(row, self.step)
        # Only the first process has measured: all must know when patience ends.
        self.best_tick = round(self.group.of_first(self.best_tick))
        return row

    @property
    def _images_per_step(self) -> int:
        return self.options.batch_size * self.options.critic_steps

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    @torch.no_grad()
    def _update_average(self) -> None:
        half_life = self.options.ema_images
        forget = 1 - 0.5 ** (self.options.batch_size / half_life) if half_life else 1.0
        # In the first half-lives the average forgets faster, or it would be mostly first noise.
        forget = max(forget, 1 / (self.step + 1))
        for ours, value in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            ours.lerp_(value, forget)

    @torch.no_grad()
    def _refresh_norms(self) -> None:
        """Give the averaged generator the batch statistics of its own weights.

        Those of the training weights fit it badly, and a moving average lags behind: they are
        computed anew over many latents (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021).
        """
        norms = [m for m in self.average.modules() if isinstance(m, nn.BatchNorm2d)]
        if not norms:
            return
        random = torch.Generator().manual_seed(self.options.seed)
        chances = self.images.chances
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        for _ in range(NORM_BATCHES):
            latents = torch.randn(NORM_BATCH, self.options.latent, generator=random)
            chosen = torch.multinomial(chances, NORM_BATCH, replacement=True, generator=random)
            classes = self.images.classes[chosen]
            self.average(latents.to(self.group.device), classes.to(self.group.device))
        self.average.eval()

    def _measure(self) -> dict[str, float]:
        """KID and diversity of the averaged generator; writes the tick's grid."""
        self._draw_grid()
        count = min(TICK_IMAGES, TICK_IMAGES_PER_REAL * len(self.real_classes))
        wanted = np.resize(self.real_classes, count).tolist()
        samples = self._samples(range(FIRST_TICK_SEED, FIRST_TICK_SEED + count), wanted)
        spread = diversity(pixel_points(samples), self.real_points)
        found = kid(self.real_embeddings, self.features.embed(samples), draws=0)
        return {"kid": found.value, "diversity": spread}

    def _samples(self, seeds: Sequence[int], classes: Sequence[int]) -> Any:
        return sample_images(self.average, seeds, classes, length=self.options.latent)

    def _draw_grid(self) -> None:
        """Samples of seeds 0 to 63; a conditional generator shows its classes in turn."""
        classes = len(self.options.label_names)
        grid = sample_sheet(self.average, classes, length=self.options.latent)
        folder = self.out / SAMPLES
        folder.mkdir(exist_ok=True)
        Image.fromarray(grid).save(folder / f"{self.step:07d}.png")
        grids = sorted(folder.glob("*.png"))
        if len(grids) > MOST_GRIDS:
            # Every second one goes: a run of any length takes bounded room.
            for path in grids[1:-1:2]:
                path.unlink()
        self.log.images("samples", grid, self.step)

    def _collapse(self, spread: float) -> str:
        """The reason to stop where samples have been nearly alike for some ticks; else nothing."""
        low = not spread >= self.options.min_diversity
        self.low_ticks = self.low_ticks + 1 if low else 0
        if self.low_ticks < COLLAPSED_TICKS:
            return ""
        return (
            f"the generator has collapsed: at step {self.step} its images differ by {spread:.3f} "
            f"of "
            f"what real images do, for {COLLAPSED_TICKS} ticks in a row under "
            f"--min-diversity {self.options.min_diversity:g}. The state before this tick and "
            f"the best generator stay in {self.out}; start again with another --seed, a smaller "
            "step size or another objective, and another --out"
        )

    def _check_finite(self) -> None:
        recent = torch.stack(self.pending[-STEPS_PER_CHECK:])
        sums = dict(zip(StepMetrics._fields, recent.sum(dim=0).tolist(), strict=True))
        names = [name for name, total in sums.items() if not math.isfinite(total)]
        if not self.group.agree(bool(names)):
            self.bar.game({name: total / len(recent) for name, total in sums.items()})
            return
        raise Diverged(
            f"training diverged by step {self.step}: {', '.join(names)} became infinite or no "
            f"number. The last good state and the best generator stay in {self.out}; start again "
            "with a smaller --generator-learning-rate and --critic-learning-rate, or float32, and "
            "another --out"
        )

    def _save(self) -> None:
        if not self.group.is_first:
            return
        seconds = self.seconds + (self._elapsed() if self.pending else 0.0)
        state: dict[str, Any] = {
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "average": self.average.state_dict(),
            "generator_optimizer": self.update.generator_optimizer.state_dict(),
            "critic_optimizer": self.update.critic_optimizer.state_dict(),
            "pending": torch.stack(self.pending) if self.pending else torch.empty(0, 6),
            "step": self.step,
            "seconds": seconds,
            "best_kid": self.best_kid,
            "best_tick": self.best_tick,
            "low_ticks": self.low_ticks,
            "rows": self.rows,
        }
        save_checkpoint(self.out / CHECKPOINT, state)

    def _save_best(self, row: dict[str, float]) -> None:
        card = GeneratorCard(
            options=self.options,
            step=self.step,
            images_seen=int(row["images"]),
            images_sha256=fingerprint(self.train_set.records),
            images=dict(Counter(record.label for record in self.train_set.records)),
            code_version=code_version(),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            metrics=TrainingMetrics(kid=row["kid"], features=self.features.title),
        )
        save_generator(self.out / GENERATOR, self.average, card)


def _load(
    records: Sequence[ImageRecord], options: GanOptions, part: str, *, quiet: bool
) -> ImageSet:
    """Images of the run's size; smaller ones are left out, since enlarging makes nothing
    sharper.
    """
    return load_images(
        records, options.size, title=f"reading {part} images", quiet=quiet, enlarge=False
    )
