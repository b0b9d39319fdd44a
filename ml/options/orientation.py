"""Options of training the orientation check."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from ml.options.common import OPTIONS_CONFIG, RandomSeed, WeightDecay


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class OrientationOptions:
    """Everything that determines the result of training the orientation check."""

    epochs: int = Field(
        default=20, ge=1, description="Number of epochs; the last weights are exported."
    )
    batch_size: int = Field(default=64, ge=2, description="Images per step.")
    learning_rate: float = Field(default=4e-3, ge=0, description="Maximum learning rate.")
    weight_decay: WeightDecay = 0.01
    leave_out: str = Field(
        default="",
        title="Excluded site",
        description="Site to train without, and to measure.",
    )
    seed: RandomSeed = 0
