"""Compare GANs: train every preset for the same time, measure all alike, report on one page.

A model that diverges or collapses is a result too: it gets that verdict, and the metrics of its
best generator where there is one.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from ml.data.manifest import ImageRecord
from ml.errors import CheckpointError, Collapsed, TrainingFailed, XrayError
from ml.files import write_whole
from ml.gan.checks import check_options
from ml.gan.evaluation.comparison import (
    ComparedGenerator,
    ComparisonOptions,
    ComparisonRun,
    GanComparison,
    ModelSettings,
    image_options,
)
from ml.gan.evaluation.evaluate import measure_generator
from ml.gan.evaluation.features import (
    CLASSIFIER,
    IMAGENET,
    FeatureSpace,
    feature_space,
    unseen_spaces,
)
from ml.gan.evaluation.real_images import RealImages, read_real_images
from ml.gan.generator_file import GENERATOR, load_generator
from ml.gan.network_pairs import build_critic, build_generator
from ml.gan.projected_step import build_step
from ml.gan.step import TrainingImages, draw_step
from ml.gan.training import ShouldStop, train_gan
from ml.json_model import InvalidJson
from ml.options.gan import GanOptions
from ml.reporting.gan_report import draw_sheet, render_comparison
from ml.reporting.gan_tables import comparison_markdown
from ml.training.distributed import join_process_group
from ml.training.metrics_log import read_metrics
from ml.training.run_folder import fingerprint, read_options

JSON, HTML, MARKDOWN = "comparison.json", "comparison.html", "comparison.md"
RESULT, GRID = "result.json", "grid.png"
GRID_SIDE = 5
# An evaluation takes some hundred samples: often enough for a curve, and not much oftener.
SECONDS_PER_EVALUATION = 60
FEWEST_EVALUATIONS, MOST_EVALUATIONS = 4, 20
TRIAL_SECONDS, TRIAL_STEPS = 2.0, 50
OnComparisonTick = Callable[[str, int, dict[str, float]], None]


class Ending(NamedTuple):
    """How a training ended."""

    verdict: str
    problem: str = ""


def compare_gans(
    records: Sequence[ImageRecord],
    out: Path,
    options: ComparisonOptions,
    *,
    device: torch.device,
    features: Sequence[FeatureSpace] | None = None,
    on_tick: OnComparisonTick | None = None,
    should_stop: ShouldStop | None = None,
    quiet: bool = False,
) -> GanComparison:
    """Train and measure every preset; write `comparison.json`, `.html` and `.md`.

    A model that has a result in `out` is not trained again, so presets and seeds can be added
    later. One that was interrupted is trained for the rest of its time.

    Args:
        records: the data set's images, of all splits and classes.
        out: the folder of the results, with a training run for every preset and seed.
        options: the conditions of the comparison.
        device: where to train.
        features: the feature spaces, the first one also during training; EfficientNet-Lite0 with
            ImageNet weights and the released classifier by default.
        on_tick: called with preset, seed and the metrics of every evaluation.
        should_stop: asked after every step; true saves the state and ends the call.
        quiet: shows no progress of reading and measuring.

    Returns:
        The content of `comparison.json`; where the call was stopped, with the finished models.

    Raises:
        XrayError: presets or options that do not exist or do not fit together.
        DataError: images that are missing, unreadable or too few.
        CheckpointError: the folder holds a model with other options or images.
    """
    runs = options.runs()
    for run in runs:
        check_options(options.options_of(run))
    if join_process_group(device).world_size > 1:
        raise XrayError("A comparison runs in one process. Start it without accelerate.")
    names = unseen_spaces([IMAGENET, CLASSIFIER], [options.options_of(run) for run in runs])
    spaces = features or [feature_space(name, device=device) for name in names]
    labels = options.options_of(runs[0]).label_names
    wanted = [record for record in records if record.label in labels]
    job = _ComparisonJob(wanted, out, options, tuple(spaces), device, quiet)
    results = {run: job.finished(run) for run in runs}
    # Before any training: images that are missing must not cost an hour first.
    real = job.read_real_images() if None in results.values() else None
    for run in runs:
        if results[run] is None and real:
            ending = job.train(run, on_tick, should_stop)
            if ending is None:
                break
            results[run] = job.measure(run, real, ending)
        write_gan_comparison(out, job.comparison(results))
    return job.comparison(results)


@dataclass(frozen=True, slots=True)
class _ComparisonJob:
    """A comparison in progress."""

    records: list[ImageRecord]
    out: Path
    options: ComparisonOptions
    spaces: tuple[FeatureSpace, ...]
    device: torch.device
    quiet: bool

    def settings(self, run: ComparisonRun) -> ModelSettings:
        """Everything that a model's result depends on, except the speed of the machine."""
        return ModelSettings(
            preset=run.preset,
            seed=run.seed,
            options=self.options.settings_of(run),
            budget_minutes=self.options.budget_minutes,
            samples=self.options.samples,
            images_sha256=fingerprint(self.records),
            features=[space.title for space in self.spaces],
        )

    def finished(self, run: ComparisonRun) -> ComparedGenerator | None:
        """The result of a training, where there is one."""
        path = self.out / run.folder / RESULT
        if not path.exists():
            return None
        try:
            result = ComparedGenerator.from_json(path.read_bytes())
        except InvalidJson as problem:
            raise CheckpointError(
                f"{path} is not a result of this version: {problem}. Delete it to measure the "
                "model again."
            ) from problem
        changed = [name for name, value in self.settings(run) if getattr(result, name) != value]
        if changed:
            raise CheckpointError(
                f"{path} belongs to a comparison with other settings ({', '.join(changed)}). Give "
                "the same options, or another --out."
            )
        # The page shows the grid of this run, whatever file the result names.
        grid = str(run.folder / GRID) if result.evaluation else None
        return result.model_copy(update={"grid": grid})

    def read_real_images(self) -> RealImages:
        """The images that all models are measured against."""
        size, labels, conditional = image_options(self.options.options_of(self.options.runs()[0]))
        return read_real_images(
            self.records,
            labels,
            size,
            features=self.spaces,
            samples=self.options.samples,
            by_class=conditional and len(labels) > 1,
            quiet=self.quiet,
        )

    def train(
        self, run: ComparisonRun, on_tick: OnComparisonTick | None, should_stop: ShouldStop | None
    ) -> Ending | None:
        """Train a model for its time; None where the call was stopped before the end."""
        try:
            train_gan(
                self.records,
                self.out / run.folder,
                self.with_interval(run),
                device=self.device,
                features=self.spaces[0],
                budget_minutes=self.options.budget_minutes,
                on_tick=partial(on_tick, *run) if on_tick else None,
                should_stop=should_stop,
            )
        except TrainingFailed as failure:
            verdict = "collapsed" if isinstance(failure, Collapsed) else "diverged"
            # The sentences after the first are advice for the training of a single model.
            return Ending(verdict, str(failure).split(". ")[0])
        except CheckpointError:
            # Raised where the training was stopped before its first evaluation.
            if not (should_stop and should_stop()):
                raise
        return None if should_stop and should_stop() else Ending("finished")

    def with_interval(self, run: ComparisonRun) -> GanOptions:
        """The options of a training with evaluations at regular times on this machine.

        A training that was started before keeps its interval.
        """
        options = self.options.options_of(run)
        if "evaluation_interval" in self.options.changes_for(run.preset):
            return options
        started = read_options(self.out / run.folder)
        if started:
            return replace(options, evaluation_interval=started["evaluation_interval"])
        seconds = 60 * self.options.budget_minutes
        wanted = max(seconds / SECONDS_PER_EVALUATION, FEWEST_EVALUATIONS)
        evaluations = min(wanted, MOST_EVALUATIONS)
        steps = seconds / evaluations / seconds_per_step(options, self.device)
        return replace(options, evaluation_interval=max(1, round(steps)))

    def measure(self, run: ComparisonRun, real: RealImages, ending: Ending) -> ComparedGenerator:
        """Measure a trained model; write its result and its grid of samples."""
        folder = self.out / run.folder
        best, evaluation = folder / GENERATOR, None
        if best.exists():
            loaded = load_generator(best, self.device)
            evaluation = measure_generator(loaded, real, quiet=self.quiet)
            (folder / GRID).write_bytes(draw_sheet(loaded, GRID_SIDE))
        result = ComparedGenerator(
            **dict(self.settings(run)),
            verdict=ending.verdict,
            problem=ending.problem,
            weights=_count_weights(self.options.options_of(run)),
            rows=read_metrics(folder),
            grid=str(run.folder / GRID) if evaluation else None,
            evaluation=evaluation,
        )
        write_whole(folder / RESULT, result.to_json())
        return result

    def comparison(
        self, results: Mapping[ComparisonRun, ComparedGenerator | None]
    ) -> GanComparison:
        """The results so far."""
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        models = [result for result in results.values() if result]
        return GanComparison(options=self.options, device=device, models=models)


def seconds_per_step(options: GanOptions, device: torch.device) -> float:
    """The duration of one adversarial step on this machine, measured on noise."""
    torch.manual_seed(options.seed)
    generator, critic = build_generator(options).to(device), build_critic(options).to(device)
    group = join_process_group(device)
    update = build_step(generator.train(), critic.train(), options, group)
    grey = torch.randint(256, (options.batch_size, options.size, options.size), dtype=torch.uint8)
    classes = torch.arange(options.batch_size) % len(options.label_names)
    images = TrainingImages(grey.to(device), classes, torch.ones(options.batch_size))
    update.prepare(images)
    for step in range(TRIAL_STEPS + 1):
        if step == 1:
            # The first step prepares kernels and memory for the others.
            started = time.monotonic()
        # Reading a number waits until a GPU has finished the step.
        update(draw_step(images, options, step, group), step).generator_loss.item()
        if step and time.monotonic() - started > TRIAL_SECONDS:
            break
    return max((time.monotonic() - started) / step, 1e-6)


def _count_weights(options: GanOptions) -> dict[str, int]:
    """Numbers of trainable weights of generator and critic."""
    networks = {"generator": build_generator(options), "critic": build_critic(options)}
    return {
        name: sum(weight.numel() for weight in network.parameters())
        for name, network in networks.items()
    }


def write_gan_comparison(out: Path, comparison: GanComparison) -> None:
    """Write `comparison.json`, `.html` and `.md` to the comparison's folder, beside its grids."""
    write_whole(out / JSON, comparison.to_json())
    write_whole(out / MARKDOWN, comparison_markdown(comparison))
    grids = {
        model.grid: (out / model.grid).read_bytes() for model in comparison.models if model.grid
    }
    write_whole(out / HTML, render_comparison(comparison, grids))
