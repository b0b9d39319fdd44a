"""Options of training: one definition for the command line, for runs and for the loop.

What a field means for a person stands in its metadata, so that flags and forms are made from it
(`ml.flags`).
"""

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class ClassifierOptions:
    """All that decides the result of a training run."""

    network: str = "efficientnet-lite0"
    epochs: int = 12
    # The first epochs see smaller films: twice as fast, and what is learnt there carries over
    # (progressive resizing).
    small_epochs: int = 4
    small_size: int = 160
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    ema_decay: float = 0.995
    patience: int = 4
    precision: str = "float32"
    seed: int = 0
    # A source whose films the run never sees, so that it can be measured as an unknown hospital.
    leave_out: str = ""
    # Chance that a film drawn of a class that has synthetic films is one of them.
    synthetic_share: float = 0.5


def _option(default: Any, text: str, low: float | None = None, high: float | None = None) -> Any:
    """A field with what a person is told about it and the range it must lie in."""
    return field(default=default, metadata={"help": text, "min": low, "max": high})


@dataclass(frozen=True, slots=True)
class GanOptions:
    """All that decides the result of training a GAN; the defaults are WGAN-GP's."""

    objective: str = _option("wgan-gp", "What the networks play for: gan, wgan, wgan-gp, r3gan.")
    network: str = _option("report", "The pair of networks: mlp, report, resnet.")
    size: int = _option(64, "Side of the films, in pixels.", 16, 512)
    labels: str = _option("covid", "Classes to learn, separated by commas.")
    conditional: bool = _option(False, "Let one generator make each class on demand.")
    latent: int = _option(128, "Length of the latent vector.", 1, 4096)
    width: int = _option(16, "Channels of resnet at the films' own size.", 1, 256)
    batch_size: int = _option(32, "Films per step, over all processes.", 2)
    steps: int = _option(20_000, "Generator steps.", 1)
    critic_steps: int = _option(5, "Critic steps for each generator step.", 1)
    generator_rate: float = _option(1e-4, "Step size of the generator.", 0)
    critic_rate: float = _option(1e-4, "Step size of the critic.", 0)
    optimizer: str = _option("adam", "adam or rmsprop.")
    beta1: float = _option(0.0, "Adam's memory of the gradient.", 0, 0.9999)
    beta2: float = _option(0.9, "Adam's memory of its square.", 0, 0.9999)
    penalty: float = _option(10.0, "Weight of the gradient penalty (lambda; gamma for r3gan).", 0)
    penalty_every: int = _option(1, "Critic steps from one penalty to the next (lazy penalty).", 1)
    clip: float = _option(0.01, "Range c of the critic's weights under wgan.", 0)
    generator_norm: bool = _option(True, "Batch norm in the generator.")
    critic_norm: bool = _option(False, "Batch norm in the report's critic; not under a penalty.")
    dropout: float = _option(0.25, "Dropout of the report's critic.", 0, 0.9)
    batch_std: bool = _option(False, "Show the resnet critic the spread of its batch.")
    augment: float = _option(0.0, "Share of the films that DiffAugment changes.", 0, 1)
    ema_films: int = _option(10_000, "Films made in which the averaged generator forgets half.", 0)
    tick_steps: int = _option(200, "Generator steps from one checkpoint to the next.", 1)
    patience: int = _option(0, "Ticks without a better KID before stopping; 0: never.", 0)
    least_diversity: float = _option(0.1, "Share of the films' spread that means collapse.", 0, 1)
    precision: str = _option("float32", "float32, or bfloat16 where the processor has it.")
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
    generator_rate=5e-5,
    critic_rate=5e-5,
    penalty=0.0,
)
# Both networks normalised, one step each, a little momentum (Radford, Metz, Chintala, 2016).
DCGAN = replace(
    WGAN_GP,
    objective="gan",
    critic_steps=1,
    generator_rate=2e-4,
    critic_rate=2e-4,
    beta1=0.5,
    beta2=0.999,
    penalty=0.0,
    critic_norm=True,
)
# The basic GAN has no convolutions.
GAN = replace(DCGAN, network="mlp", critic_norm=False)
# The report's future work: residual networks.
RESNET = replace(WGAN_GP, network="resnet", ema_films=20_000)
# No normalisation at all: two gradient penalties keep the relativistic game stable.
R3GAN = replace(
    RESNET,
    objective="r3gan",
    critic_steps=1,
    generator_rate=2e-4,
    critic_rate=2e-4,
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
