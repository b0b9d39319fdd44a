"""Options of training, comparing and evaluating GANs and of generating images, and GAN presets."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ml.option_fields import BASIC
from ml.options.common import OPTIONS_CONFIG, PrecisionOption, RandomSeed
from ml.texts import msg

ObjectiveName = Literal["gan", "wgan", "wgan-gp", "r3gan", "hinge"]
DEFAULT_FEATURES = "efficientnet-lite0,classifier"
# Fewer images have no distance from others.
LEAST_SAMPLES = 16
# Folder within a training run's, for the model that it releases.
RELEASE_FOLDER = "release"
_FeatureSpaces = Annotated[
    str,
    Field(
        title=msg("Feature spaces"),
        description=msg(
            "Where images are compared, separated by commas: efficientnet-lite0, "
            "efficientnet-lite2, classifier, inception."
        ),
    ),
]
_ImageSize = Annotated[
    int,
    Field(
        ge=16,
        le=512,
        title=msg("Image size"),
        description=msg("Side of the images, in pixels."),
        json_schema_extra=BASIC,
    ),
]
_Classes = Annotated[
    str,
    Field(
        title=msg("Classes"),
        description=msg("Classes to learn, separated by commas."),
        json_schema_extra=BASIC,
    ),
]
_Conditional = Annotated[
    bool,
    Field(
        description=msg("Train one generator that makes each class on demand."),
        json_schema_extra=BASIC,
    ),
]


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class GanOptions:
    """Everything that determines the result of training a GAN; the defaults are WGAN-GP's."""

    objective: ObjectiveName = Field(
        default="wgan-gp",
        title=msg("Loss function"),
        description=msg("Loss function."),
        json_schema_extra=BASIC,
    )
    network: Literal["mlp", "report", "resnet", "projected"] = Field(
        default="report",
        description=msg("Architecture of generator and critic."),
        json_schema_extra=BASIC,
    )
    size: _ImageSize = 64
    labels: _Classes = "covid"
    conditional: _Conditional = False
    latent: int = Field(
        default=128,
        ge=1,
        le=4096,
        title=msg("Latent size"),
        description=msg("Length of the latent vector."),
    )
    width: int = Field(
        default=16,
        ge=1,
        le=256,
        description=msg("Channels of resnet and projected generators at full resolution."),
    )
    batch_size: int = Field(
        default=32,
        ge=2,
        description=msg("Images per step, over all processes."),
        json_schema_extra=BASIC,
    )
    steps: int = Field(
        default=20_000, ge=1, description=msg("Generator steps."), json_schema_extra=BASIC
    )
    critic_steps: int = Field(default=5, ge=1, description=msg("Critic steps per generator step."))
    generator_learning_rate: float = Field(
        default=1e-4, ge=0, description=msg("Learning rate of the generator.")
    )
    critic_learning_rate: float = Field(
        default=1e-4, ge=0, description=msg("Learning rate of the critic.")
    )
    optimizer: Literal["adam", "rmsprop"] = Field(default="adam", description=msg("Optimizer."))
    beta1: float = Field(
        default=0.0,
        ge=0,
        le=0.9999,
        title=msg("Adam beta1"),
        description=msg("Adam's decay of the gradient."),
    )
    beta2: float = Field(
        default=0.9,
        ge=0,
        le=0.9999,
        title=msg("Adam beta2"),
        description=msg("Adam's decay of the squared gradient."),
    )
    penalty: float = Field(
        default=10.0,
        ge=0,
        title=msg("Gradient penalty"),
        description=msg("Weight of the gradient penalty (lambda; gamma for r3gan)."),
    )
    penalty_every: int = Field(
        default=1,
        ge=1,
        title=msg("Gradient penalty interval"),
        description=msg("Critic steps between gradient penalties (lazy penalty)."),
    )
    energy: float = Field(
        default=0.0,
        ge=0,
        title=msg("Energy distance"),
        description=msg(
            "Weight of the energy distance between features of samples and of real "
            "images (projected): against collapse."
        ),
    )
    clip: float = Field(
        default=0.01,
        ge=0,
        title=msg("Weight clipping"),
        description=msg("Bound c of the critic's weights (wgan)."),
    )
    generator_norm: bool = Field(
        default=True,
        title=msg("Batch norm in the generator"),
        description=msg("Batch norm in the generator."),
    )
    critic_norm: bool = Field(
        default=False,
        title=msg("Batch norm in the critic"),
        description=msg("Batch norm in the report's critic; not with a gradient penalty."),
    )
    dropout: float = Field(
        default=0.25, ge=0, le=0.9, description=msg("Dropout of the report's critic.")
    )
    batch_std: bool = Field(
        default=False,
        title=msg("Minibatch standard deviation"),
        description=msg("Show the resnet or projected critic the standard deviation of its batch."),
    )
    augment: float = Field(
        default=0.0,
        ge=0,
        le=1,
        title=msg("Augmentation"),
        description=msg("Share of images that DiffAugment changes."),
    )
    ema_images: int = Field(
        default=10_000,
        ge=0,
        title=msg("EMA half-life (images)"),
        description=msg("Half-life of the averaged generator, in generated images."),
    )
    evaluation_interval: int = Field(
        default=200,
        ge=1,
        title=msg("Evaluation interval (steps)"),
        description=msg("Generator steps between evaluations, each with a checkpoint."),
        json_schema_extra=BASIC,
    )
    patience: int = Field(
        default=0,
        ge=0,
        description=msg("Evaluations without a lower KID before training stops; 0: never."),
    )
    min_diversity: float = Field(
        default=0.1,
        ge=0,
        le=1,
        title=msg("Stop when diversity falls below"),
        description=msg(
            "Share of the real images' diversity below which the generator has collapsed."
        ),
    )
    precision: PrecisionOption = "float32"
    seed: RandomSeed = 0

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes to learn, in the order of the generator's class numbers."""
        return tuple(name.strip() for name in self.labels.split(",") if name.strip())

    @property
    def seen_spaces(self) -> tuple[str, ...]:
        """Feature spaces that the critic saw, in which its generator is not judged."""
        return ("efficientnet-lite0",) if self.network == "projected" else ()


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class GanEvaluationOptions:
    """Options of evaluating a generator."""

    samples: int = Field(
        default=512,
        ge=LEAST_SAMPLES,
        le=20_000,
        description=msg("Number of images to generate."),
        json_schema_extra=BASIC,
    )
    features: _FeatureSpaces = DEFAULT_FEATURES


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class GanReleaseOptions:
    """Options of measuring and exporting a trained generator."""

    samples: int = Field(
        default=0,
        ge=0,
        le=20_000,
        description=msg(
            "Number of images to generate, 16 or more; 0: as many as the test split has, 64 to 512."
        ),
    )
    features: _FeatureSpaces = DEFAULT_FEATURES


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class GanComparisonOptions:
    """Options of comparing GAN presets."""

    size: _ImageSize = 64
    labels: _Classes = "covid"
    presets: str = Field(
        default="gan,dcgan,wgan,wgan-gp,resnet,r3gan,projected",
        description=msg("Presets to compare, separated by commas."),
    )
    seeds: int = Field(default=1, ge=1, description=msg("Trainings of each preset."))
    samples: int = Field(
        default=512, ge=LEAST_SAMPLES, description=msg("Images of each model to measure.")
    )
    features: _FeatureSpaces = DEFAULT_FEATURES
    conditional: _Conditional = False
    precision: PrecisionOption = "float32"


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class SynthesisOptions:
    """Options of generating synthetic images."""

    count: int = Field(
        default=64,
        ge=1,
        le=100_000,
        title=msg("Number of images"),
        description=msg("Number of images, from seed 0 on."),
        json_schema_extra=BASIC,
    )
    seeds: str = Field(
        default="", description=msg("Seeds to use instead of a number, such as 0-63,100.")
    )
    label: str = Field(
        default="",
        title=msg("Class"),
        description=msg(
            "Classes to generate, separated by commas; empty: the same number of each class."
        ),
        # The flag that training has. Runs of earlier versions keep the name of the field.
        json_schema_extra={**BASIC, "flag": "labels"},
    )
    truncation: float = Field(
        default=1.0,
        ge=0.1,
        le=1,
        description=msg("Below 1 gives more typical, less diverse images."),
    )
    refuse_below: float = Field(
        default=1.0,
        ge=0,
        le=100,
        title=msg("Privacy threshold (percentile)"),
        description=msg(
            "Refuse an image that is nearer to a training image than this percentage of "
            "held-out real images are."
        ),
    )


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
# Features of a frozen network make lungs within minutes; the energy distance keeps them varied.
PROJECTED = replace(
    RESNET,
    objective="hinge",
    network="projected",
    width=32,
    critic_steps=1,
    generator_learning_rate=2e-4,
    critic_learning_rate=4e-4,
    beta2=0.99,
    penalty=1.0,
    energy=5.0,
    augment=0.5,
    batch_std=True,
    ema_images=4_000,
)
GAN_PRESETS: dict[str, GanOptions] = {
    "gan": GAN,
    "dcgan": DCGAN,
    "wgan": WGAN,
    "wgan-gp": WGAN_GP,
    "resnet": RESNET,
    "r3gan": R3GAN,
    "projected": PROJECTED,
}
