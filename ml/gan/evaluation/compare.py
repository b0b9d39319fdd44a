"""GANs compared: every preset under the same time, measured the same way, on one page.

A model that diverges or collapses is a result too: it gets that verdict, and the metrics of its
best generator where there is one.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ml.data.manifest import ImageRecord
from ml.errors import CheckpointError, Collapsed, TrainingFailed, XrayError
from ml.files import write_whole
from ml.gan.checks import check_options
from ml.gan.evaluation.evaluate import measure_generator
from ml.gan.evaluation.features import CLASSIFIER, IMAGENET, FeatureSpace, feature_space
from ml.gan.evaluation.real_images import SAMPLES, RealImages, read_real_images
from ml.gan.generator_file import GENERATOR, load_generator
from ml.gan.networks import build_critic, build_generator
from ml.gan.step import AdversarialStep, TrainingImages, draw_step
from ml.gan.training import train_gan
from ml.json_model import finite
from ml.legacy import rename_keys
from ml.option_fields import validated_options
from ml.options import GAN_PRESETS, GanOptions
from ml.reporting.gan_report import draw_sheet, render_comparison
from ml.reporting.gan_tables import comparison_markdown
from ml.training.distributed import join_process_group
from ml.training.metrics_log import read_metrics
from ml.training.run_folder import OPTIONS, fingerprint

JSON, HTML, MARKDOWN = "comparison.json", "comparison.html", "comparison.md"
RESULT, GRID = "result.json", "grid.png"
GRID_SIDE = 5
# Time ends a training, not the number of steps.
ENDLESS = 1_000_000_000
# A tick measures some hundred images: so often that curves have a shape, and not much oftener.
SECONDS_PER_TICK = 60
LEAST_TICKS, MOST_TICKS = 4, 20
TRIAL_SECONDS, TRIAL_STEPS = 2.0, 50
OnTick = Callable[[str, int, dict[str, float]], None]
ShouldStop = Callable[[], bool]


class Run(NamedTuple):
    """One training of a comparison."""

    preset: str
    seed: int

    @property
    def folder(self) -> Path:
        """Its folder within the comparison's."""
        return Path(self.preset) / f"seed-{self.seed}"


class Ending(NamedTuple):
    """How a training ended."""

    verdict: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ComparisonOptions:
    """What is compared, and under which conditions.

    Attributes:
        size: side of the images, in pixels.
        labels: the classes to learn, separated by commas.
        budget_minutes: time to train for, of each preset and seed.
        presets: names of `GAN_PRESETS`.
        seeds: how many seeds each preset is trained with, from 0.
        samples: how many images of each model are measured.
        changes: fields of `GanOptions` that every preset gets.
        changes_of: the same by the name of a preset, for it alone.
    """

    size: int = 64
    labels: str = "covid"
    budget_minutes: float = 10.0
    presets: tuple[str, ...] = tuple(GAN_PRESETS)
    seeds: int = 1
    samples: int = SAMPLES
    changes: Mapping[str, Any] = field(default_factory=dict)
    changes_of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def changes_for(self, preset: str) -> dict[str, Any]:
        """The fields in which a preset's trainings differ from it."""
        general = {"size": self.size, "labels": self.labels, "steps": ENDLESS}
        return {**general, **self.changes, **self.changes_of.get(preset, {})}

    def options_of(self, run: Run) -> GanOptions:
        """The options of a training; its ticks are set once its pace is known."""
        changes = {**self.changes_for(run.preset), "seed": run.seed}
        return validated_options(GanOptions, changes, GAN_PRESETS[run.preset])

    def runs(self) -> list[Run]:
        """All trainings in their order: wherever the time ends, each preset had its turn.

        Raises:
            XrayError: nothing to compare, or options that no training could be made of.
        """
        unknown = {*self.presets, *self.changes_of} - set(GAN_PRESETS)
        if unknown or not self.presets:
            raise XrayError(
                f"unknown preset(s) {', '.join(sorted(unknown)) or 'none'}: expected some of "
                f"{', '.join(GAN_PRESETS)}"
            )
        if self.seeds < 1 or not self.budget_minutes > 0:
            raise XrayError(
                f"{self.seeds} seed(s) of {self.budget_minutes:g} minute(s) train nothing: give "
                "--seeds 1 or more, and --budget-minutes above 0"
            )
        runs = [Run(preset, seed) for seed in range(self.seeds) for preset in self.presets]
        for run in runs:
            check_options(self.options_of(run))
        if len({_images_of(self.options_of(run)) for run in runs}) > 1:
            raise XrayError("all presets of a comparison learn the same images at the same size")
        return runs


def _images_of(options: GanOptions) -> tuple[int, tuple[str, ...], bool]:
    return options.size, options.label_names, options.conditional


def compare_gans(
    records: Sequence[ImageRecord],
    out: Path,
    options: ComparisonOptions,
    *,
    device: torch.device,
    features: Sequence[FeatureSpace] | None = None,
    on_tick: OnTick | None = None,
    should_stop: ShouldStop | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train and measure every preset; write `comparison.json`, `.html` and `.md`.

    A model whose result lies in `out` is not trained again, so presets and seeds can be added
    later; one that was interrupted is trained for the rest of its time.

    Args:
        records: the data set's images, of all splits and classes.
        out: the folder of the results, with a training run for every preset and seed.
        options: what is compared.
        device: where to train.
        features: where images are compared, the first one also during training; EfficientNet-Lite0
            with ImageNet weights and the released classifier by default.
        on_tick: called with preset, seed and the metrics of every tick.
        should_stop: asked after every step; a true answer saves the state and ends the call.
        quiet: shows no progress of reading and measuring.

    Returns:
        What `comparison.json` says: `options`, `device`, and `models`, a list of results in which
        each has `preset`, `seed`, `verdict`, `problem`, `rows` (of its ticks), `grid` (a PNG file
        in `out`, or None) and `evaluation` (as of `measure_generator`, or None). Where the call
        was stopped, of those models that are finished.

    Raises:
        XrayError: presets or options that do not exist or do not fit together.
        DataError: images that are missing, unreadable or too few.
        CheckpointError: the folder holds a model of other options or images.
    """
    runs = options.runs()
    if join_process_group(device).world_size > 1:
        raise XrayError("a comparison runs in one process: start it without accelerate")
    spaces = features or [feature_space(IMAGENET, device=device), feature_space(CLASSIFIER)]
    labels = options.options_of(runs[0]).label_names
    wanted = [record for record in records if record.label in labels]
    job = _Job(wanted, out, options, tuple(spaces), device, quiet)
    results = {run: job.finished(run) for run in runs}
    # Before any training: images that are missing must not cost an hour first.
    real = job.read_real_images() if None in results.values() else None
    for run in runs:
        if results[run] is None and real:
            ending = job.train(run, on_tick, should_stop)
            if ending is None:
                break
            results[run] = job.measure(run, real, ending)
        write_comparison(out, job.comparison(results))
    return job.comparison(results)


@dataclass(frozen=True, slots=True)
class _Job:
    """A comparison at work."""

    records: list[ImageRecord]
    out: Path
    options: ComparisonOptions
    spaces: tuple[FeatureSpace, ...]
    device: torch.device
    quiet: bool

    def settings(self, run: Run) -> dict[str, Any]:
        """All that a result depends on, but for the pace of the machine."""
        options = asdict(self.options.options_of(run))
        if "evaluation_interval" not in self.options.changes_for(run.preset):
            del options["evaluation_interval"]
        return {
            "preset": run.preset,
            "seed": run.seed,
            "options": options,
            "budget_minutes": self.options.budget_minutes,
            "samples": self.options.samples,
            "images_sha256": fingerprint(self.records),
            "features": [space.title for space in self.spaces],
        }

    def finished(self, run: Run) -> dict[str, Any] | None:
        """The result of a training, where it is there."""
        path = self.out / run.folder / RESULT
        if not path.exists():
            return None
        result: dict[str, Any] = rename_keys(json.loads(path.read_text(encoding="utf-8")))
        changed = [key for key, value in self.settings(run).items() if result.get(key) != value]
        if changed:
            raise CheckpointError(
                f"{path} is of another comparison ({', '.join(changed)}): give the same options, "
                "or another --out"
            )
        # What is shown on the page is this run's, whatever file its result would name.
        result["grid"] = str(run.folder / GRID) if result.get("evaluation") else None
        return result

    def read_real_images(self) -> RealImages:
        """The images that all models are measured against."""
        size, labels, conditional = _images_of(self.options.options_of(self.options.runs()[0]))
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
        self, run: Run, on_tick: OnTick | None, should_stop: ShouldStop | None
    ) -> Ending | None:
        """Train a model for its time; None where the call was stopped before the end."""
        try:
            train_gan(
                self.records,
                self.out / run.folder,
                self.paced(run),
                device=self.device,
                features=self.spaces[0],
                budget_minutes=self.options.budget_minutes,
                on_tick=partial(on_tick, *run) if on_tick else None,
                should_stop=should_stop,
            )
        except TrainingFailed as failure:
            verdict = "collapsed" if isinstance(failure, Collapsed) else "diverged"
            # What follows the first sentence is advice to someone who trains one model.
            return Ending(verdict, str(failure).split(". ")[0])
        except CheckpointError:
            # What the training says when it was stopped before its first tick.
            if not (should_stop and should_stop()):
                raise
        return None if should_stop and should_stop() else Ending("finished")

    def paced(self, run: Run) -> GanOptions:
        """The options of a training with ticks at regular times, however fast its steps are here.

        A training that was begun keeps the ticks it has.
        """
        options = self.options.options_of(run)
        if "evaluation_interval" in self.options.changes_for(run.preset):
            return options
        begun = self.out / run.folder / OPTIONS
        if begun.exists():
            found = rename_keys(json.loads(begun.read_text(encoding="utf-8")))["options"]
            return replace(options, evaluation_interval=found["evaluation_interval"])
        seconds = 60 * self.options.budget_minutes
        ticks = min(max(seconds / SECONDS_PER_TICK, LEAST_TICKS), MOST_TICKS)
        steps = seconds / ticks / seconds_per_step(options, self.device)
        return replace(options, evaluation_interval=max(1, round(steps)))

    def measure(self, run: Run, real: RealImages, ending: Ending) -> dict[str, Any]:
        """The result of a training, and its grid of samples."""
        folder = self.out / run.folder
        best, evaluation = folder / GENERATOR, None
        if best.exists():
            loaded = load_generator(best, self.device)
            evaluation = measure_generator(loaded, real, quiet=self.quiet)
            (folder / GRID).write_bytes(draw_sheet(loaded, GRID_SIDE))
        result: dict[str, Any] = finite(
            {
                **self.settings(run),
                **ending._asdict(),
                "weights": _count_weights(self.options.options_of(run)),
                "rows": read_metrics(folder),
                "grid": str(run.folder / GRID) if evaluation else None,
                "evaluation": evaluation,
            }
        )
        write_whole(folder / RESULT, _to_json(result))
        return result

    def comparison(self, results: Mapping[Run, dict[str, Any] | None]) -> dict[str, Any]:
        """All that is known so far, as JSON values."""
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return {
            "options": finite(asdict(self.options)),
            "device": device,
            "models": [result for result in results.values() if result],
        }


def seconds_per_step(options: GanOptions, device: torch.device) -> float:
    """How long one adversarial step takes here, tried on noise."""
    torch.manual_seed(options.seed)
    generator, critic = build_generator(options).to(device), build_critic(options).to(device)
    group = join_process_group(device)
    update = AdversarialStep(generator.train(), critic.train(), options, group)
    grey = torch.randint(256, (options.batch_size, options.size, options.size), dtype=torch.uint8)
    classes = torch.arange(options.batch_size) % len(options.label_names)
    images = TrainingImages(grey.to(device), classes, torch.ones(options.batch_size))
    for step in range(TRIAL_STEPS + 1):
        if step == 1:
            # The first step prepares what the others find ready.
            started = time.monotonic()
        # A number is asked for, so that a GPU has really done the step.
        update(draw_step(images, options, step, group), step).generator_loss.item()
        if step and time.monotonic() - started > TRIAL_SECONDS:
            break
    return max((time.monotonic() - started) / step, 1e-6)


def _count_weights(options: GanOptions) -> dict[str, int]:
    """Numbers that generator and critic learn."""
    networks = {"generator": build_generator(options), "critic": build_critic(options)}
    return {
        name: sum(weight.numel() for weight in network.parameters())
        for name, network in networks.items()
    }


def write_comparison(out: Path, comparison: Mapping[str, Any]) -> None:
    """Write `comparison.json`, `.html` and `.md`.

    Args:
        out: the folder of the comparison, where its grids of samples lie.
        comparison: what `compare_gans` gives.
    """
    write_whole(out / JSON, _to_json(comparison))
    write_whole(out / MARKDOWN, comparison_markdown(comparison))
    grids = {
        model["grid"]: (out / model["grid"]).read_bytes()
        for model in comparison["models"]
        if model["grid"]
    }
    write_whole(out / HTML, render_comparison(comparison, grids))


def _to_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, allow_nan=False) + "\n"
