"""A comparison of GANs: its options, its trainings and the contract of its JSON files. No torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from ml.errors import XrayError
from ml.gan.evaluation.measured_generator import MeasuredGenerator, TrainingRow
from ml.json_model import JsonModel
from ml.option_fields import OptionValue, validated_options
from ml.options.gan import GAN_PRESETS, GanOptions

# Samples of a model that are measured.
DEFAULT_SAMPLES = 512
# Time ends a training, not the number of steps.
ENDLESS = 1_000_000_000


class ComparisonRun(NamedTuple):
    """One training of a comparison."""

    preset: str
    seed: int

    @property
    def folder(self) -> Path:
        """Its folder within the comparison's."""
        return Path(self.preset) / f"seed-{self.seed}"


@dataclass(frozen=True, slots=True)
class ComparisonOptions:
    """The conditions of a comparison.

    Attributes:
        size: side of the images, in pixels.
        labels: the classes to learn, separated by commas.
        budget_minutes: training time of each preset and seed.
        presets: names in `GAN_PRESETS`.
        seeds: how many seeds each preset is trained with, from 0.
        samples: how many images of each model are measured.
        changes: fields of `GanOptions` that are changed in every preset.
        changes_of: the same by the name of a preset, for it alone.
    """

    size: int = 64
    labels: str = "covid"
    budget_minutes: float = 10.0
    presets: tuple[str, ...] = tuple(GAN_PRESETS)
    seeds: int = 1
    samples: int = DEFAULT_SAMPLES
    changes: Mapping[str, OptionValue] = field(default_factory=dict)
    changes_of: Mapping[str, Mapping[str, OptionValue]] = field(default_factory=dict)

    def changes_for(self, preset: str) -> dict[str, OptionValue]:
        """The fields in which a preset's trainings differ from it."""
        general: dict[str, OptionValue] = {
            "size": self.size,
            "labels": self.labels,
            "steps": ENDLESS,
        }
        return {**general, **self.changes, **self.changes_of.get(preset, {})}

    def options_of(self, run: ComparisonRun) -> GanOptions:
        """The options of a training; its evaluation interval is set once its speed is known."""
        changes = {**self.changes_for(run.preset), "seed": run.seed}
        return validated_options(GanOptions, changes, GAN_PRESETS[run.preset])

    def settings_of(self, run: ComparisonRun) -> dict[str, OptionValue]:
        """The options of a training without those that depend on the speed of the machine."""
        options = asdict(self.options_of(run))
        if "evaluation_interval" not in self.changes_for(run.preset):
            del options["evaluation_interval"]
        return options

    def runs(self) -> list[ComparisonRun]:
        """All trainings, seed by seed, so that an early end leaves every preset with a result.

        Raises:
            XrayError: there is nothing to compare, or the presets learn different images.
        """
        unknown = {*self.presets, *self.changes_of} - set(GAN_PRESETS)
        if unknown or not self.presets:
            raise XrayError(
                f"Unknown presets: {', '.join(sorted(unknown)) or 'none given'}. Give some of "
                f"{', '.join(GAN_PRESETS)}."
            )
        if self.seeds < 1 or not self.budget_minutes > 0:
            raise XrayError(
                f"With --seeds {self.seeds} and --budget-minutes {self.budget_minutes:g} nothing "
                "is trained. Give --seeds 1 or more, and --budget-minutes above 0."
            )
        runs = [
            ComparisonRun(preset, seed) for seed in range(self.seeds) for preset in self.presets
        ]
        if len({image_options(self.options_of(run)) for run in runs}) > 1:
            raise XrayError(
                "The presets of a comparison must learn the same images at the same size. Give "
                "the same size and labels for all of them."
            )
        return runs


def image_options(options: GanOptions) -> tuple[int, tuple[str, ...], bool]:
    """The options that decide which images a GAN learns: size, classes, conditional."""
    return options.size, options.label_names, options.conditional


class ModelSettings(JsonModel):
    """Everything that a compared model's result depends on, except the speed of the machine.

    Attributes:
        preset: its name.
        seed: of the training.
        options: of the training, as in `GanOptions`.
        budget_minutes: training time.
        samples: how many images were measured.
        images_sha256: fingerprint of the data set's images.
        features: titles of the feature spaces.
    """

    preset: str
    seed: int
    options: dict[str, OptionValue]
    budget_minutes: float
    samples: int
    images_sha256: str
    features: list[str]


class ComparedGenerator(ModelSettings):
    """The result of one training of a comparison: the contract of `result.json`.

    Attributes:
        verdict: finished, diverged or collapsed.
        problem: why the training ended early; empty where it finished.
        weights: numbers of trainable weights, by network.
        rows: the metrics of its evaluations.
        grid: a PNG file of samples in the comparison's folder; None without a generator.
        evaluation: the metrics of its best generator; None without one.
    """

    verdict: str
    problem: str
    weights: dict[str, int]
    rows: list[TrainingRow]
    grid: str | None
    evaluation: MeasuredGenerator | None


class GanComparison(JsonModel):
    """The contract of `comparison.json`.

    Attributes:
        options: of the comparison.
        device: where the models were trained.
        models: those that are finished, in the order of the trainings.
    """

    options: ComparisonOptions
    device: str
    models: list[ComparedGenerator]
