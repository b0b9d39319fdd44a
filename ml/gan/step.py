"""One adversarial step: several updates of the critic, one of the generator.

What makes it fast, next to the plain way (`benchmarks/gan_step.py` holds both side by side):

- images for the critic are made without a graph: the plain way walks the generator backwards in
  each critic step and throws the result away;
- real and fake images pass the critic as one batch, where no batch norm couples them;
- channels-last memory, and `ml.gan.networks`;
- bfloat16 for all products where it is asked for, the norms of the penalty in float32.

All that is random is drawn for the whole batch from the number of the step, before it is shared
out: a resumed run draws the same, and so do several processes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ml.gan.diffaugment import DRAWS, diff_augment
from ml.gan.objectives import Objective, build_objective
from ml.options import GanOptions
from ml.training.distributed import ProcessGroup


class Draw(NamedTuple):
    """What one update works on; the first dimension is the batch."""

    images: Tensor  # (B, S, S) uint8, real
    classes: Tensor  # (B,)
    latents: Tensor  # (B, Z)
    mix: Tensor  # (B,) uniform
    changes: Tensor  # (B, 2, DRAWS) uniform: of the real and of the fake image


class StepMetrics(NamedTuple):
    """What one adversarial step measured, as tensors that nobody has waited for yet.

    Those of the critic are means over its updates: a lazy penalty is in one of several.
    """

    critic_loss: Tensor  # without the penalty
    wasserstein: Tensor  # mean score of real images less that of fakes
    penalty: Tensor
    critic_gradient: Tensor  # norm over all weights
    generator_loss: Tensor
    generator_gradient: Tensor


@dataclass(slots=True)
class GreyImages:
    """The training images on the device, and the chance of each to be drawn."""

    grey: Tensor  # (N, S, S) uint8, on the device
    classes: Tensor  # (N,) int64, on the CPU
    chances: Tensor  # (N,) on the CPU


def draw_step(
    images: GreyImages, options: GanOptions, step: int, group: ProcessGroup
) -> list[Draw]:
    """The draws of one step: one for each critic update, the last for the generator's."""
    random = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
    updates, count = options.critic_steps + 1, options.batch_size
    chosen = torch.multinomial(images.chances, updates * count, replacement=True, generator=random)
    latents = torch.randn(updates, count, options.latent, generator=random)
    mix = torch.rand(updates, count, generator=random)
    changes = torch.rand(updates, count, 2, DRAWS, generator=random)
    # Dropout is the one thing drawn while the networks run.
    torch.manual_seed(options.seed * 1_000_003 + step)
    device = images.grey.device
    draws = []
    for number, indices in enumerate(chosen.view(updates, count)):
        whole = (indices, latents[number], mix[number], changes[number])
        indices, *rest = (group.slice_of(part) for part in whole)
        own = images.grey[indices.to(device)]
        draws.append(Draw(own, images.classes[indices].to(device), *(r.to(device) for r in rest)))
    return draws


class AdversarialStep:
    """Updates both networks of a game."""

    def __init__(
        self, generator: nn.Module, critic: nn.Module, options: GanOptions, group: ProcessGroup
    ):
        self.generator, self.critic, self.options = generator, critic, options
        self.group = group
        self.objective: Objective = build_objective(options)
        self.dtype = next(generator.parameters()).dtype
        self.generator_optimizer = _optimizer(generator, options.generator_learning_rate, options)
        self.critic_optimizer = _optimizer(critic, options.critic_learning_rate, options)

    def __call__(self, draws: list[Draw], step: int) -> StepMetrics:
        """Update the critic once for each draw but the last, then the generator.

        Args:
            draws: of this step.
            step: its number, from 0; a lazy penalty comes by it.
        """
        updates = []
        for number, draw in enumerate(draws[:-1], start=step * self.options.critic_steps):
            penalised = number % self.options.penalty_every == 0
            updates.append(torch.stack(self.update_critic(draw, penalised=penalised)))
        loss, distance, penalty, norm = torch.stack(updates).mean(dim=0)
        of_generator, generator_norm = self.update_generator(draws[-1])
        return StepMetrics(loss, distance, penalty, norm, of_generator, generator_norm)

    def update_critic(
        self, draw: Draw, *, penalised: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One update of the critic: its loss, Wasserstein estimate, penalty, gradient norm."""
        loss, distance, penalty = self.critic_losses(draw, penalised=penalised)
        self.critic_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss + penalty)
        norm = self._apply(self.critic, self.critic_optimizer)
        self.objective.constrain(self.critic)
        return loss.detach(), distance, penalty.detach(), norm

    def critic_losses(self, draw: Draw, *, penalised: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The critic's loss, its Wasserstein estimate and its penalty on one draw."""
        with torch.no_grad(), self._reduced():
            fake = self.generator(draw.latents, draw.classes)
        real = self._augmented(to_signed(draw.images, self.dtype), draw.changes[:, 0])
        fake = self._augmented(fake.to(self.dtype), draw.changes[:, 1])
        with self._reduced():
            of_real, of_fake = self._scores(real, fake, draw.classes)
        loss = self.objective.critic_loss(of_real, of_fake)
        penalty = loss.new_zeros(())
        if penalised:
            # A penalty that comes less often weighs more (Karras et al., StyleGAN2, 2020).
            with self._reduced():
                penalty = self.options.penalty_every * self.objective.penalty(
                    self.critic, real, fake, draw.classes, draw.mix
                )
        return loss, (of_real.mean() - of_fake.mean()).detach(), penalty

    def update_generator(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """One update of the generator: its loss and gradient norm."""
        # The critic's own gradients would be computed and thrown away.
        self.critic.requires_grad_(False)
        loss = self.generator_loss(draw)
        self.generator_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.critic.requires_grad_(True)
        return loss.detach(), self._apply(self.generator, self.generator_optimizer)

    def generator_loss(self, draw: Draw) -> Tensor:
        """The generator's loss on one draw."""
        with self._reduced():
            fake = self.generator(draw.latents, draw.classes)
            fake = self._augmented(fake.to(self.dtype), draw.changes[:, 1])
            of_fake = self.critic(fake, draw.classes)
            of_real = of_fake.detach()
            if self.objective.compares_with_real:
                real = self._augmented(to_signed(draw.images, self.dtype), draw.changes[:, 0])
                of_real = self.critic(real, draw.classes)
        return self.objective.generator_loss(_full(of_fake), _full(of_real))

    def _reduced(self) -> torch.autocast:
        reduced = self.options.precision == "bfloat16"
        return torch.autocast(self.group.device.type, torch.bfloat16, enabled=reduced)

    def _scores(self, real: Tensor, fake: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        if self.options.critic_norm:
            # Each batch has its own statistics, or the critic could read off the mixture.
            return _full(self.critic(real, classes)), _full(self.critic(fake, classes))
        scores = self.critic(torch.cat([real, fake]), torch.cat([classes, classes]))
        of_real, of_fake = _full(scores).chunk(2)
        return of_real, of_fake

    def _augmented(self, images: Tensor, draws: Tensor) -> Tensor:
        changed = diff_augment(images, draws, self.options.augment)
        return changed.contiguous(memory_format=torch.channels_last)

    def _apply(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
        """Average the gradients over the processes, step, and give their norm."""
        self.group.average_gradients(network.parameters())
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        optimizer.step()
        return norm


def to_signed(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, S, S) grey levels -> (B, 1, S, S) in [-1, 1]."""
    return images[:, None].to(dtype).div(127.5).sub(1)


def _full(scores: Tensor) -> Tensor:
    """Scores in at least float32: a loss is a mean of small differences."""
    return scores.float() if scores.dtype == torch.bfloat16 else scores


def _optimizer(network: nn.Module, rate: float, options: GanOptions) -> torch.optim.Optimizer:
    if options.optimizer == "rmsprop":
        return torch.optim.RMSprop(network.parameters(), lr=rate)
    betas = (options.beta1, options.beta2)
    return torch.optim.Adam(network.parameters(), lr=rate, betas=betas, fused=True)


def prefer_speed(device: torch.device) -> None:
    """Let a GPU take its fastest kernels: images of one size are worth a search, TF32 its
    digits.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
