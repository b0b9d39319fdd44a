"""The state of a GAN training run: networks, optimisers and progress, saved and restored exactly.

A checkpoint holds tensors, numbers and strings alone, and is read without pickle.
"""

import copy
import math
from pathlib import Path

import torch
from torch import Tensor

from ml.errors import CheckpointError
from ml.gan.averaged_generator import update_average
from ml.gan.network_pairs import build_critic, build_generator
from ml.gan.projected_step import build_step
from ml.gan.step import Draw, StepMetrics, TrainingImages, prefer_speed
from ml.legacy import rename_keys, rename_weights
from ml.options.gan import GanOptions
from ml.training.checkpoint import load_checkpoint, save_checkpoint
from ml.training.distributed import ProcessGroup
from ml.training.synchronised_layers import synchronise_layers


class GanTrainingState:
    """Everything that a run needs to continue, equal in all processes.

    Attributes:
        generator: the network under training.
        critic: its opponent.
        average: the averaged generator, without synchronised layers: one process evaluates it.
        step: generator steps done.
        seconds: training time up to the last save.
        rows: the metrics of all evaluations.
        pending: metrics of the steps since the last evaluation, (6,) each.
    """

    def __init__(self, options: GanOptions, group: ProcessGroup):
        """Initialise the networks from the seed of the options."""
        prefer_speed(group.device)
        torch.manual_seed(options.seed)
        generator, critic = build_generator(options), build_critic(options)
        self._options = options
        self.average = copy.deepcopy(generator).to(group.device).requires_grad_(False)
        self.generator = synchronise_layers(generator.to(group.device), group).train()
        self.critic = synchronise_layers(critic.to(group.device), group).train()
        self._update = build_step(self.generator, self.critic, options, group)
        self.step = 0
        self.seconds = 0.0
        self.rows: list[dict[str, float]] = []
        self.pending: list[Tensor] = []

    @property
    def next_evaluation(self) -> int:
        """The step after which the next evaluation is due."""
        last = int(self.rows[-1]["step"]) if self.rows else 0
        interval = self._options.evaluation_interval
        return min(self._options.steps, (last // interval + 1) * interval)

    @property
    def best_row(self) -> int:
        """The number of the evaluation with the lowest KID, from 1; 0 where there is none."""
        best_kid, best = math.inf, 0
        for number, row in enumerate(self.rows, start=1):
            if row["kid"] < best_kid:
                best_kid, best = row["kid"], number
        return best

    def finished(self, budget: float) -> bool:
        """Whether the steps, the patience or the budget in seconds are used up."""
        if self.pending:  # stopped on the very step of an evaluation, which is still to be done
            return False
        patience = self._options.patience
        out_of_patience = 0 < patience <= len(self.rows) - self.best_row
        return self.step >= self._options.steps or out_of_patience or self.seconds >= budget

    def prepare(self, images: TrainingImages) -> None:
        """Let the step look at the training images before the first call of `advance`."""
        self._update.prepare(images)

    def advance(self, draws: list[Draw]) -> None:
        """Make one adversarial step and update the averaged generator."""
        self.pending.append(torch.stack(list(self._update(draws, self.step))))
        self.step += 1
        update_average(self.average, self.generator, self._options, self.step)

    def mean_metrics(self, group: ProcessGroup) -> dict[str, float]:
        """The mean of each step metric since the last evaluation, over all processes."""
        # Each process knows the losses of its images alone.
        means = group.sum(torch.stack(self.pending).mean(dim=0)).double() / group.world_size
        return dict(zip(StepMetrics._fields, means.tolist(), strict=True))

    def save(self, path: Path) -> None:
        """Replace the checkpoint at `path`."""
        state: dict[str, object] = {
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "average": self.average.state_dict(),
            "generator_optimizer": self._update.generator_optimizer.state_dict(),
            "critic_optimizer": self._update.critic_optimizer.state_dict(),
            "pending": torch.stack(self.pending) if self.pending else torch.empty(0, 6),
            "step": self.step,
            "seconds": self.seconds,
            "rows": self.rows,
        }
        save_checkpoint(path, state)

    def load(self, path: Path, device: torch.device) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: it is unreadable, or of other networks.
        """
        state = load_checkpoint(path)
        try:
            self.generator.load_state_dict(rename_weights(state["generator"]))
            self.critic.load_state_dict(rename_weights(state["critic"]))
            self.average.load_state_dict(rename_weights(state["average"]))
            self._update.generator_optimizer.load_state_dict(state["generator_optimizer"])
            self._update.critic_optimizer.load_state_dict(state["critic_optimizer"])
            self.pending = list(state["pending"].to(device))
            self.step, self.seconds = state["step"], state["seconds"]
            self.rows = rename_keys(state["rows"])
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as problem:
            raise CheckpointError(
                f"{path} belongs to another network or version. Use another --out."
            ) from problem
