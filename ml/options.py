"""Options of training: one definition for the command line, for runs and for the loop."""

from dataclasses import dataclass


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
