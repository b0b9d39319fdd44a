"""One adversarial step: several updates of the critic, one of the generator.

What makes it faster than the usual implementation (`benchmarks/gan_step.py` measures both):

- fakes for the critic are made without a graph: the usual way computes the generator's gradients
  in each critic step and discards them;
- real and fake images pass the critic as one batch, where no batch norm couples them, and R3GAN's
  loss and penalty share that pass;
- channels-last memory, and the fused layers of `ml.gan.networks`;
- bfloat16 for all products where it is wanted, the norms of the penalty in float32.

Everything random is drawn for the whole batch from the number of the step before it is split among
processes: a resumed run draws the same numbers, and so do several processes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ml.gan.diffaugment import DRAWS, diff_augment
from ml.gan.objectives import CriticBatch, Objective, ScoredImages, build_objective
from ml.options.gan import GanOptions
from ml.training.distributed import ProcessGroup


class Draw(NamedTuple):
    """The inputs of one update; the first dimension is the batch."""

    images: Tensor  # (B, S, S) uint8, real
    classes: Tensor  # (B,)
    latents: Tensor  # (B, Z)
    mix: Tensor  # (B,) uniform
    changes: Tensor  # (B, 2, DRAWS) uniform: of the real and of the fake image


class StepMetrics(NamedTuple):
    """The metrics of one adversarial step, as tensors on the device that may still be computing.

    Those of the critic are means over its updates: a lazy penalty is in one of several.
    """

    critic_loss: Tensor  # without the penalty
    wasserstein: Tensor  # mean score of real images minus that of fakes
    penalty: Tensor
    critic_gradient: Tensor  # norm over all weights
    generator_loss: Tensor
    generator_gradient: Tensor


@dataclass(slots=True)
class TrainingImages:
    """The training images on the device, and the probability of each to be drawn."""

    grey: Tensor  # (N, S, S) uint8, on the device
    classes: Tensor  # (N,) int64, on the CPU
    chances: Tensor  # (N,) on the CPU


def draw_step(
    images: TrainingImages, options: GanOptions, step: int, group: ProcessGroup
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
    """Updates both networks of a GAN."""

    def __init__(
        self, generator: nn.Module, critic: nn.Module, options: GanOptions, group: ProcessGroup
    ):
        self.generator, self.critic, self.options = generator, critic, options
        self.group = group
        self.objective: Objective = build_objective(options)
        self.dtype = next(generator.parameters()).dtype
        self.generator_optimizer = _optimizer(generator, options.generator_learning_rate, options)
        self.critic_optimizer = _optimizer(critic, options.critic_learning_rate, options)

    def prepare(self, images: TrainingImages) -> None:
        """Learn what the step needs to know of the training images: here nothing."""

    def __call__(self, draws: list[Draw], step: int) -> StepMetrics:
        """Update the critic once for each draw but the last, then the generator.

        Args:
            draws: of this step.
            step: its number, from 0; it decides when a lazy penalty is due.
        """
        updates = []
        for number, draw in enumerate(draws[:-1], start=step * self.options.critic_steps):
            penalised = number % self.options.penalty_every == 0
            updates.append(torch.stack(self.update_critic(draw, penalised=penalised)))
        loss, distance, penalty, norm = torch.stack(updates).mean(dim=0)
        generator_loss, generator_norm = self.update_generator(draws[-1])
        return StepMetrics(loss, distance, penalty, norm, generator_loss, generator_norm)

    def update_critic(
        self, draw: Draw, *, penalised: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Update the critic once: its loss, Wasserstein estimate, penalty, gradient norm."""
        loss, distance, penalty = self.critic_losses(draw, penalised=penalised)
        self.critic_optimizer.zero_grad(set_to_none=True)
        # Gradients of the images, which R3GAN's penalty needs a graph for, are not wanted here.
        torch.autograd.backward(loss + penalty, inputs=list(self.critic.parameters()))
        norm = self._apply(self.critic, self.critic_optimizer)
        self.objective.constrain(self.critic)
        return loss.detach(), distance, penalty.detach(), norm

    def critic_losses(self, draw: Draw, *, penalised: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The critic's loss, its Wasserstein estimate and its penalty on one draw."""
        batch = self._score(draw, by_image=penalised and self.objective.penalises_images)
        loss = self.objective.critic_loss(batch.real.scores, batch.fake.scores)
        penalty = loss.new_zeros(())
        if penalised:
            # A penalty that is applied less often weighs more (Karras et al., StyleGAN2, 2020).
            with self._reduced_precision():
                penalty = self.options.penalty_every * self.objective.penalty(self.critic, batch)
        distance = (batch.real.scores.mean() - batch.fake.scores.mean()).detach()
        return loss, distance, penalty

    def update_generator(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Update the generator once: its loss and gradient norm."""
        # The critic's own gradients would be computed and thrown away.
        self.critic.requires_grad_(False)
        loss = self.generator_loss(draw)
        self.generator_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.critic.requires_grad_(True)
        return loss.detach(), self._apply(self.generator, self.generator_optimizer)

    def generator_loss(self, draw: Draw) -> Tensor:
        """The generator's loss on one draw."""
        with self._reduced_precision():
            fake = self.generator(draw.latents, draw.classes)
            fake = self._augmented(fake.to(self.dtype), draw.changes[:, 1])
            fake_scores = self.critic(fake, draw.classes)
            real_scores = fake_scores.detach()
            if self.objective.compares_with_real:
                real = self._augmented(to_signed(draw.images, self.dtype), draw.changes[:, 0])
                real_scores = self.critic(real, draw.classes)
        return self.objective.generator_loss(_full(fake_scores), _full(real_scores))

    def _score(self, draw: Draw, *, by_image: bool) -> CriticBatch:
        """Let the critic score the real images of a draw and as many fakes.

        Args:
            draw: of one update.
            by_image: make the scores differentiable by the images before augmentation.
        """
        with torch.no_grad(), self._reduced_precision():
            fake = self.generator(draw.latents, draw.classes).to(self.dtype)
        real = to_signed(draw.images, self.dtype)
        if by_image:
            real, fake = real.requires_grad_(), fake.requires_grad_()
        augmented_real = self._augmented(real, draw.changes[:, 0])
        augmented_fake = self._augmented(fake, draw.changes[:, 1])
        with self._reduced_precision():
            real_scores, fake_scores = self._scores(augmented_real, augmented_fake, draw.classes)
        return CriticBatch(
            ScoredImages(real, augmented_real, real_scores),
            ScoredImages(fake, augmented_fake, fake_scores),
            draw.classes,
            draw.mix,
        )

    def _scores(self, real: Tensor, fake: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        if self.options.critic_norm:
            # Each batch has its own statistics, or the critic could recognise a mixture by them.
            return _full(self.critic(real, classes)), _full(self.critic(fake, classes))
        scores = self.critic(torch.cat([real, fake]), torch.cat([classes, classes]))
        real_scores, fake_scores = _full(scores).chunk(2)
        return real_scores, fake_scores

    def _reduced_precision(self) -> torch.autocast:
        reduced = self.options.precision == "bfloat16"
        return torch.autocast(self.group.device.type, torch.bfloat16, enabled=reduced)

    def _augmented(self, images: Tensor, draws: Tensor) -> Tensor:
        changed = diff_augment(images, draws, self.options.augment)
        return changed.contiguous(memory_format=torch.channels_last)

    def _apply(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
        """Average the gradients over the processes, step, and return their norm."""
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
    """Let a GPU use TF32 and search for its fastest kernels, as all images have one size."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
