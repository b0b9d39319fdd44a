"""Options of the programs that a run can start: one definition of flags, forms and checks.

The type and the `Field` of an option say which values it takes and what a person reads about it;
`ml.option_fields` reads both.
"""

from dataclasses import fields, replace
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ml.option_fields import BASIC

# JSON in PostgreSQL has no infinity.
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
Precision = Literal["float32", "bfloat16"]
Objective = Literal["gan", "wgan", "wgan-gp", "r3gan"]
DEFAULT_FEATURES = "efficientnet-lite0,classifier"
# Folders within a training run's, for the model that it releases.
RELEASE_FOLDER = "release"
BUNDLE_FOLDER = "bundle"


@dataclass(frozen=True, config=_CONFIG)
class ClassifierOptions:
    """Everything that determines the result of training a classifier."""

    network: Literal["efficientnet-lite0", "report-cnn"] = Field(
        default="efficientnet-lite0", description="Network architecture.", json_schema_extra=BASIC
    )
    epochs: int = Field(
        default=12,
        ge=1,
        title="Maximum epochs",
        description="Maximum number of epochs.",
        json_schema_extra=BASIC,
    )
    # What is learned from smaller images carries over (progressive resizing).
    small_epochs: int = Field(
        default=4,
        ge=0,
        title="Epochs on small images",
        description="First epochs on smaller images, which take half the time.",
    )
    small_size: int = Field(
        default=160,
        ge=32,
        title="Small image size",
        description="Side of the smaller images, in pixels.",
    )
    batch_size: int = Field(
        default=32, ge=2, description="Images per step.", json_schema_extra=BASIC
    )
    learning_rate: float = Field(default=1e-3, ge=0, description="Maximum learning rate.")
    weight_decay: float = Field(default=0.02, ge=0, description="Weight decay of AdamW.")
    label_smoothing: float = Field(
        default=0.05, ge=0, le=0.5, description="Share of each label given to the other classes."
    )
    ema_decay: float = Field(
        default=0.995, ge=0, le=1, description="Decay of the averaged weights per step."
    )
    patience: int = Field(
        default=4, ge=1, description="Epochs without a lower validation loss before training stops."
    )
    precision: Precision = Field(
        default="float32", description="bfloat16 is faster on hardware that supports it."
    )
    seed: int = Field(
        default=0, ge=0, title="Random seed", description="Random seed.", json_schema_extra=BASIC
    )
    # They can then be measured as unknown hospitals.
    leave_out: str = Field(
        default="",
        title="Excluded sites",
        description="Sites or sources to exclude from training, separated by commas.",
    )
    synthetic_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of synthetic images among those drawn of a class that has any.",
        json_schema_extra=BASIC,
    )


@dataclass(frozen=True, config=_CONFIG)
class AblationOptions(ClassifierOptions):
    """Everything that determines the result of comparing conditions."""

    leave_out: str = Field(
        default="",
        title="Excluded sites",
        description="Sites or sources to train every condition without as well, and to measure.",
    )
    seeds: int = Field(
        default=3,
        ge=1,
        le=20,
        title="Trainings per condition",
        description="Trainings of each condition; their random seeds count up from the first.",
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


@dataclass(frozen=True, config=_CONFIG)
class LungOptions:
    """Everything that determines the result of training the lung segmentation network."""

    epochs: int = Field(
        default=100, ge=1, description="Number of epochs; the last weights are exported."
    )
    batch_size: int = Field(default=16, ge=2, description="Images per step.")
    learning_rate: float = Field(
        default=3e-3, ge=0, description="Maximum learning rate of the decoder."
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of AdamW.")
    seed: int = Field(default=0, ge=0, title="Random seed", description="Random seed.")


@dataclass(frozen=True, config=_CONFIG)
class GanOptions:
    """Everything that determines the result of training a GAN; the defaults are WGAN-GP's."""

    objective: Objective = Field(
        default="wgan-gp",
        title="Loss function",
        description="Loss function.",
        json_schema_extra=BASIC,
    )
    network: Literal["mlp", "report", "resnet"] = Field(
        default="report",
        description="Architecture of generator and critic.",
        json_schema_extra=BASIC,
    )
    size: int = Field(
        default=64,
        ge=16,
        le=512,
        title="Image size",
        description="Side of the images, in pixels.",
        json_schema_extra=BASIC,
    )
    labels: str = Field(
        default="covid",
        title="Classes",
        description="Classes to learn, separated by commas.",
        json_schema_extra=BASIC,
    )
    conditional: bool = Field(
        default=False,
        description="Train one generator that makes each class on demand.",
        json_schema_extra=BASIC,
    )
    latent: int = Field(
        default=128, ge=1, le=4096, title="Latent size", description="Length of the latent vector."
    )
    width: int = Field(
        default=16, ge=1, le=256, description="Channels of the resnet at full resolution."
    )
    batch_size: int = Field(
        default=32,
        ge=2,
        description="Images per step, over all processes.",
        json_schema_extra=BASIC,
    )
    steps: int = Field(
        default=20_000, ge=1, description="Generator steps.", json_schema_extra=BASIC
    )
    critic_steps: int = Field(default=5, ge=1, description="Critic steps per generator step.")
    generator_learning_rate: float = Field(
        default=1e-4, ge=0, description="Learning rate of the generator."
    )
    critic_learning_rate: float = Field(
        default=1e-4, ge=0, description="Learning rate of the critic."
    )
    optimizer: Literal["adam", "rmsprop"] = Field(default="adam", description="Optimizer.")
    beta1: float = Field(
        default=0.0,
        ge=0,
        le=0.9999,
        title="Adam beta1",
        description="Adam's decay of the gradient.",
    )
    beta2: float = Field(
        default=0.9,
        ge=0,
        le=0.9999,
        title="Adam beta2",
        description="Adam's decay of the squared gradient.",
    )
    penalty: float = Field(
        default=10.0,
        ge=0,
        title="Gradient penalty",
        description="Weight of the gradient penalty (lambda; gamma for r3gan).",
    )
    penalty_every: int = Field(
        default=1,
        ge=1,
        title="Gradient penalty interval",
        description="Critic steps between gradient penalties (lazy penalty).",
    )
    clip: float = Field(
        default=0.01,
        ge=0,
        title="Weight clipping",
        description="Bound c of the critic's weights (wgan).",
    )
    generator_norm: bool = Field(
        default=True,
        title="Batch norm in the generator",
        description="Batch norm in the generator.",
    )
    critic_norm: bool = Field(
        default=False,
        title="Batch norm in the critic",
        description="Batch norm in the report's critic; not with a gradient penalty.",
    )
    dropout: float = Field(
        default=0.25, ge=0, le=0.9, description="Dropout of the report's critic."
    )
    batch_std: bool = Field(
        default=False,
        title="Minibatch standard deviation",
        description="Show the resnet critic the standard deviation of its batch.",
    )
    augment: float = Field(
        default=0.0,
        ge=0,
        le=1,
        title="Augmentation",
        description="Share of images that DiffAugment changes.",
    )
    ema_images: int = Field(
        default=10_000,
        ge=0,
        title="EMA half-life (images)",
        description="Half-life of the averaged generator, in generated images.",
    )
    evaluation_interval: int = Field(
        default=200,
        ge=1,
        title="Evaluation interval (steps)",
        description="Generator steps between evaluations, each with a checkpoint.",
        json_schema_extra=BASIC,
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="Evaluations without a lower KID before training stops; 0: never.",
    )
    min_diversity: float = Field(
        default=0.1,
        ge=0,
        le=1,
        title="Stop when diversity falls below",
        description="Share of the real images' diversity below which the generator has collapsed.",
    )
    precision: Precision = Field(
        default="float32", description="bfloat16 is faster on hardware that supports it."
    )
    seed: int = Field(
        default=0, ge=0, title="Random seed", description="Random seed.", json_schema_extra=BASIC
    )

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes to learn, in the order of the generator's class numbers."""
        return tuple(name.strip() for name in self.labels.split(",") if name.strip())


@dataclass(frozen=True, config=_CONFIG)
class GanEvaluationOptions:
    """Options of evaluating a generator."""

    samples: int = Field(
        default=512,
        ge=16,
        le=20_000,
        description="Number of images to generate.",
        json_schema_extra=BASIC,
    )
    features: str = Field(
        default=DEFAULT_FEATURES,
        title="Feature spaces",
        description="Where images are compared, separated by commas: efficientnet-lite0, "
        "classifier, inception.",
    )


@dataclass(frozen=True, config=_CONFIG)
class SynthesisOptions:
    """Options of generating synthetic images."""

    count: int = Field(
        default=64,
        ge=1,
        le=100_000,
        title="Number of images",
        description="Number of images, from seed 0 on.",
        json_schema_extra=BASIC,
    )
    seeds: str = Field(
        default="", description="Seeds to use instead of a number, such as 0-63,100."
    )
    label: str = Field(
        default="",
        title="Class",
        description="Class to generate; empty: the same number of each class.",
        json_schema_extra=BASIC,
    )
    truncation: float = Field(
        default=1.0, ge=0.1, le=1, description="Below 1 gives more typical, less diverse images."
    )
    refuse_below: float = Field(
        default=1.0,
        ge=0,
        le=100,
        title="Privacy threshold (percentile)",
        description="Refuse an image that is nearer to a training image than this percentage of "
        "held-out real images are.",
    )


@dataclass(frozen=True, config=_CONFIG)
class ClassifierEvaluationOptions:
    """Options of evaluating a classifier."""

    leave_out: str = Field(
        default="",
        title="Excluded sites",
        description="Measure on all images of these sites or sources, which training excluded.",
    )


@dataclass(frozen=True, config=_CONFIG)
class GanComparisonOptions:
    """Options of comparing GAN presets."""

    size: int = Field(default=64, ge=16, le=512, description="Side of the images, in pixels.")
    labels: str = Field(default="covid", description="Classes to learn, separated by commas.")
    presets: str = Field(
        default="gan,dcgan,wgan,wgan-gp,resnet,r3gan",
        description="Presets to compare, separated by commas.",
    )
    seeds: int = Field(default=1, ge=1, description="Trainings of each preset.")
    samples: int = Field(default=512, ge=16, description="Images of each model to measure.")
    features: str = Field(
        default=DEFAULT_FEATURES,
        description="Feature spaces, separated by commas; the first selects.",
    )
    conditional: bool = Field(
        default=False, description="Train generators that make each class on demand."
    )
    precision: Precision = Field(
        default="float32", description="bfloat16 is faster on hardware that supports it."
    )


@dataclass(frozen=True, config=_CONFIG)
class DataPreparationOptions:
    """Options of making a data set version from images."""

    name: str = Field(default="", description="Name of the data set.")
    source: str = Field(
        default="", description="folders, dicom: name of the source; default: made from the name."
    )
    patient_pattern: str = Field(
        default="",
        description="folders: regular expression whose one group finds the patient in a path.",
    )
    short_side: int = Field(
        default=256, ge=0, description="Reduce the short side to this, in pixels; 0 keeps the size."
    )
    keep_duplicates: bool = Field(
        default=False, description="Also take near-duplicates that have the same label."
    )


@dataclass(frozen=True, config=_CONFIG)
class NoOptions:
    """Options of a program that has none."""


WGAN_GP = GanOptions()
# Adam with momentum makes a clipped critic unstable: its authors take RMSprop.
WGAN = replace(
    WGAN_GP,
    objective="wgan",
    optimizer="rmsprop",
    generator_learning_rate=5e-5,
    critic_learning_rate=5e-5,
    penalty=0.0,
)
# Both networks normalised, one step each, a little momentum (Radford, Metz, Chintala, 2016).
DCGAN = replace(
    WGAN_GP,
    objective="gan",
    critic_steps=1,
    generator_learning_rate=2e-4,
    critic_learning_rate=2e-4,
    beta1=0.5,
    beta2=0.999,
    penalty=0.0,
    critic_norm=True,
)
# The basic GAN has no convolutions.
GAN = replace(DCGAN, network="mlp", critic_norm=False)
# The report's future work: residual networks.
RESNET = replace(WGAN_GP, network="resnet", ema_images=20_000)
# No normalisation at all: two gradient penalties keep the relativistic loss stable.
R3GAN = replace(
    RESNET,
    objective="r3gan",
    critic_steps=1,
    generator_learning_rate=2e-4,
    critic_learning_rate=2e-4,
    beta2=0.99,
    penalty=1.0,
    generator_norm=False,
)
GAN_PRESETS: dict[str, GanOptions] = {
    "gan": GAN,
    "dcgan": DCGAN,
    "wgan": WGAN,
    "wgan-gp": WGAN_GP,
    "resnet": RESNET,
    "r3gan": R3GAN,
}
