"""Options of training: one definition for the command line, for runs and for the loop.

What a field means for a person stands in its metadata, so that flags and forms are made from it
(`ml.commands.options_to_flags`).
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

# The words that an option may be, where it is one of a few.
PRECISIONS = ("float32", "bfloat16")


def _option(
    default: Any,
    text: str,
    low: float | None = None,
    high: float | None = None,
    *,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field with what a person is told about it, and the range or words it must be of."""
    about = {"help": text, "min": low, "max": high, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True)
class ClassifierOptions:
    """All that decides the result of a training run."""

    network: str = _option(
        "efficientnet-lite0", "The network's name.", choices=("efficientnet-lite0", "report-cnn")
    )
    epochs: int = _option(12, "Most epochs.", 1)
    # What is learnt on smaller images carries over (progressive resizing).
    small_epochs: int = _option(4, "First epochs on smaller images, twice as fast.", 0)
    small_size: int = _option(160, "Side of the smaller images, in pixels.", 32)
    batch_size: int = _option(32, "Images per step.", 2)
    learning_rate: float = _option(1e-3, "Highest step size.", 0)
    weight_decay: float = _option(0.02, "Pull of weights to zero.", 0)
    label_smoothing: float = _option(0.05, "Share of the label given to the others.", 0, 0.5)
    ema_decay: float = _option(0.995, "Share kept per step of the averaged weights.", 0, 1)
    patience: int = _option(4, "Epochs without a better validation loss before stopping.", 1)
    precision: str = _option(
        "float32", "bfloat16 is faster where the processor has it.", choices=PRECISIONS
    )
    seed: int = _option(0, "Of all randomness.", 0)
    # So that the source can be measured as an unknown hospital.
    leave_out: str = _option("", "A source to learn nothing from, as an unknown hospital.")
    synthetic_share: float = _option(
        0.5, "Chance that an image drawn of a class that has such is synthetic.", 0, 1
    )


@dataclass(frozen=True, slots=True)
class AblationOptions(ClassifierOptions):
    """All that decides whether synthetic images are found to help a classifier."""

    leave_out: str = _option(
        "", "A source that each condition is trained without as well, and then measured on."
    )
    seeds: int = _option(3, "Trainings of each condition; their seeds count up from --seed.", 1, 20)

    def training(self, number: int, leave_out: str) -> ClassifierOptions:
        """The options of one training: which of a condition's, and the source it leaves out."""
        shared = {each.name: getattr(self, each.name) for each in fields(ClassifierOptions)}
        changes = {"seed": self.seed + number, "leave_out": leave_out}
        return ClassifierOptions(**(shared | changes))


@dataclass(frozen=True, slots=True)
class GanOptions:
    """All that decides the result of training a GAN; the defaults are WGAN-GP's."""

    objective: str = _option(
        "wgan-gp", "What the networks play for.", choices=("gan", "wgan", "wgan-gp", "r3gan")
    )
    network: str = _option("report", "The pair of networks.", choices=("mlp", "report", "resnet"))
    size: int = _option(64, "Side of the images, in pixels.", 16, 512)
    labels: str = _option("covid", "Classes to learn, separated by commas.")
    conditional: bool = _option(False, "Let one generator make each class on demand.")
    latent: int = _option(128, "Length of the latent vector.", 1, 4096)
    width: int = _option(16, "Channels of resnet at the images' own size.", 1, 256)
    batch_size: int = _option(32, "Images per step, over all processes.", 2)
    steps: int = _option(20_000, "Generator steps.", 1)
    critic_steps: int = _option(5, "Critic steps for each generator step.", 1)
    generator_learning_rate: float = _option(1e-4, "Step size of the generator.", 0)
    critic_learning_rate: float = _option(1e-4, "Step size of the critic.", 0)
    optimizer: str = _option("adam", "What turns slopes into steps.", choices=("adam", "rmsprop"))
    beta1: float = _option(0.0, "Adam's memory of the gradient.", 0, 0.9999)
    beta2: float = _option(0.9, "Adam's memory of its square.", 0, 0.9999)
    penalty: float = _option(10.0, "Weight of the gradient penalty (lambda; gamma for r3gan).", 0)
    penalty_every: int = _option(1, "Critic steps from one penalty to the next (lazy penalty).", 1)
    clip: float = _option(0.01, "Range c of the critic's weights under wgan.", 0)
    generator_norm: bool = _option(True, "Batch norm in the generator.")
    critic_norm: bool = _option(False, "Batch norm in the report's critic; not under a penalty.")
    dropout: float = _option(0.25, "Dropout of the report's critic.", 0, 0.9)
    batch_std: bool = _option(False, "Show the resnet critic the spread of its batch.")
    augment: float = _option(0.0, "Share of the images that DiffAugment changes.", 0, 1)
    ema_images: int = _option(
        10_000, "Images made in which the averaged generator forgets half.", 0
    )
    evaluation_interval: int = _option(200, "Generator steps from one checkpoint to the next.", 1)
    patience: int = _option(0, "Ticks without a better KID before stopping; 0: never.", 0)
    min_diversity: float = _option(0.1, "Share of the images' spread that means collapse.", 0, 1)
    precision: str = _option(
        "float32", "bfloat16 is faster where the processor has it.", choices=PRECISIONS
    )
    seed: int = _option(0, "Of all randomness.", 0)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes to learn, in the order of the generator's class numbers."""
        return tuple(name.strip() for name in self.labels.split(",") if name.strip())


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
# No normalisation at all: two gradient penalties keep the relativistic game stable.
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
