"""Options of training, comparing and evaluating classifiers."""

from dataclasses import fields
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ml.option_fields import BASIC
from ml.options.common import OPTIONS_CONFIG, PrecisionOption, RandomSeed, WeightDecay
from ml.texts import msg

# Folder within a training run's, for the model that it releases.
BUNDLE_FOLDER = "bundle"


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class ClassifierOptions:
    """Everything that determines the result of training a classifier."""

    network: Literal["efficientnet-lite0", "report-cnn"] = Field(
        default="efficientnet-lite0",
        description=msg("Network architecture."),
        json_schema_extra=BASIC,
    )
    epochs: int = Field(
        default=12,
        ge=1,
        title=msg("Maximum epochs"),
        description=msg("Maximum number of epochs."),
        json_schema_extra=BASIC,
    )
    # What is learned from smaller images carries over (progressive resizing).
    small_epochs: int = Field(
        default=4,
        ge=0,
        title=msg("Epochs on small images"),
        description=msg("First epochs on smaller images, which take half the time."),
    )
    small_size: int = Field(
        default=160,
        ge=32,
        title=msg("Small image size"),
        description=msg("Side of the smaller images, in pixels."),
    )
    crop: Literal["none", "lungs"] = Field(
        default="none",
        description=msg("Show the network the whole image, or only the box around the lungs."),
        json_schema_extra=BASIC,
    )
    augmentation: Literal["standard", "strong"] = Field(
        default="standard",
        description=msg(
            "Strong also varies what scanners differ in: tone curve, sharpness, texture."
        ),
    )
    frozen_blocks: int = Field(
        default=0,
        ge=0,
        le=7,
        title=msg("Frozen blocks"),
        description=msg("First blocks of efficientnet-lite0 that keep their ImageNet weights."),
    )
    batch_size: int = Field(
        default=32, ge=2, description=msg("Images per step."), json_schema_extra=BASIC
    )
    learning_rate: float = Field(default=1e-3, ge=0, description=msg("Maximum learning rate."))
    weight_decay: WeightDecay = 0.02
    label_smoothing: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description=msg("Share of each label given to the other classes."),
    )
    ema_decay: float = Field(
        default=0.995, ge=0, le=1, description=msg("Decay of the averaged weights per step.")
    )
    patience: int = Field(
        default=4,
        ge=1,
        description=msg("Epochs without a lower validation loss before training stops."),
    )
    precision: PrecisionOption = "float32"
    seed: RandomSeed = 0
    # They can then be measured as unknown hospitals.
    leave_out: str = Field(
        default="",
        title=msg("Excluded sites"),
        description=msg("Sites or sources to exclude from training, separated by commas."),
    )
    synthetic_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description=msg("Share of synthetic images among those drawn of a class that has any."),
        json_schema_extra=BASIC,
    )


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class AblationOptions(ClassifierOptions):
    """Everything that determines the result of comparing conditions."""

    leave_out: str = Field(
        default="",
        title=msg("Excluded sites"),
        description=msg(
            "Sites or sources to train every condition without as well, and to measure."
        ),
    )
    seeds: int = Field(
        default=3,
        ge=1,
        le=20,
        title=msg("Trainings per condition"),
        description=msg("Trainings of each condition; their random seeds count up from the first."),
        json_schema_extra=BASIC,
    )

    def training(self, number: int, leave_out: str) -> ClassifierOptions:
        """The options of one training.

        Args:
            number: of the training within its condition, from 0.
            leave_out: the sites or sources to exclude.
        """
        shared = {each.name: getattr(self, each.name) for each in fields(ClassifierOptions)}
        changes = {"seed": self.seed + number, "leave_out": leave_out}
        return ClassifierOptions(**(shared | changes))


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class ClassifierEvaluationOptions:
    """Options of evaluating a classifier."""

    leave_out: str = Field(
        default="",
        title=msg("Excluded sites"),
        description=msg(
            "Measure on all images of these sites or sources, which training excluded."
        ),
    )
