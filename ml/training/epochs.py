"""The plain training loop of the small networks: epochs over shuffled batches."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OnEpoch = Callable[[int, float], None]


@dataclass(frozen=True)
class Epochs:
    """How often the images are gone through, in which batches, and in which random order."""

    epochs: int
    images: int
    batch_size: int
    random: np.random.Generator

    @property
    def steps(self) -> int:
        """The batches of one epoch."""
        return math.ceil(self.images / self.batch_size)

    def train(
        self,
        optimizer: torch.optim.Optimizer,
        rates: float | Sequence[float],
        loss_of: Callable[[NDArray[np.int64]], Tensor],
        on_epoch: OnEpoch | None = None,
    ) -> None:
        """Train with one cycle of the learning rate (Smith and Topin, 2018).

        Args:
            optimizer: of the network.
            rates: the highest learning rate, or that of each group of parameters.
            loss_of: gives the loss of a batch from the numbers of its images.
            on_epoch: called with the number of each finished epoch and the loss of its last batch.
        """
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            rates if isinstance(rates, float) else list(rates),
            total_steps=self.epochs * self.steps,
        )
        for epoch in range(self.epochs):
            for batch in np.array_split(self.random.permutation(self.images), self.steps):
                loss = loss_of(batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            if on_epoch:
                on_epoch(epoch + 1, float(loss.detach()))
