"""Options of training the lung segmentation network."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from ml.options.common import OPTIONS_CONFIG, RandomSeed, WeightDecay


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class LungOptions:
    """Everything that determines the result of training the lung segmentation network."""

    epochs: int = Field(
        default=100, ge=1, description="Number of epochs; the last weights are exported."
    )
    batch_size: int = Field(default=16, ge=2, description="Images per step.")
    learning_rate: float = Field(
        default=3e-3, ge=0, description="Maximum learning rate of the decoder."
    )
    weight_decay: WeightDecay = 0.01
    seed: RandomSeed = 0
