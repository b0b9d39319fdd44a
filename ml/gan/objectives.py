"""Objectives of GAN training: the losses of generator and critic, and what bounds the critic.

Scores are a critic's linear outputs, shape (B,). Losses are minimised.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ml.errors import XrayError
from ml.options.gan import GanOptions

Critic = Callable[[Tensor, Tensor], Tensor]  # images (B, 1, S, S), classes (B,) -> scores (B,)


class ScoredImages(NamedTuple):
    """Images of one side, real or fake, and the critic's scores of them."""

    images: Tensor  # (B, 1, S, S) before augmentation
    augmented: Tensor  # (B, 1, S, S) as the critic saw them
    scores: Tensor  # (B,)


class CriticBatch(NamedTuple):
    """One critic update's images with their scores."""

    real: ScoredImages
    fake: ScoredImages
    classes: Tensor  # (B,) of both sides
    mix: Tensor  # (B,) uniform in [0, 1], positions between each real and fake image


class Objective(Protocol):
    """One pair of adversarial losses."""

    compares_with_real: ClassVar[bool]  # the generator's loss needs scores of real images
    penalises_images: ClassVar[bool]  # the penalty needs the scores' gradient by the images

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's loss without its penalty; scores (B,) -> scalar."""
        ...

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """The generator's loss; scores (B,) -> scalar. Most objectives ignore the real ones."""
        ...

    def penalty(self, critic: Critic, batch: CriticBatch) -> Tensor:
        """The weighted gradient penalty of the critic, or zero.

        Args:
            critic: the network that scored the batch.
            batch: where `penalises_images`, the scores are differentiable by `images`.
        """
        ...

    def constrain(self, critic: nn.Module) -> None:
        """Bring the critic's weights into their range after an update."""
        ...


class _Unconstrained:
    """The defaults of an objective without penalty or weight range."""

    compares_with_real: ClassVar[bool] = False
    penalises_images: ClassVar[bool] = False

    def penalty(self, critic: Critic, batch: CriticBatch) -> Tensor:
        """Zero."""
        del critic
        return batch.real.scores.new_zeros(())

    def constrain(self, critic: nn.Module) -> None:
        """Leave the weights as they are."""


@dataclass(frozen=True)
class Minimax(_Unconstrained):
    """The original objective with the non-saturating generator loss (Goodfellow et al., 2014).

    The sigmoid is part of the loss, where it is computed without overflow.
    """

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Binary cross-entropy with label 1 for real and 0 for fake images."""
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """-log of the probability that the critic gives the fakes of being real."""
        del real
        return F.softplus(-fake).mean()


class _Wasserstein(_Unconstrained):
    """The difference of mean scores, an estimate of the Wasserstein-1 distance."""

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """E[D(fake)] - E[D(real)]."""
        return fake.mean() - real.mean()

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """-E[D(fake)]."""
        del real
        return -fake.mean()


@dataclass(frozen=True)
class Wgan(_Wasserstein):
    """Weight clipping bounds the critic's slope (Arjovsky et al., 2017)."""

    clip: float

    @torch.no_grad()
    def constrain(self, critic: nn.Module) -> None:
        """Clip every weight to [-clip, clip]."""
        for parameter in critic.parameters():
            parameter.clamp_(-self.clip, self.clip)


@dataclass(frozen=True)
class WganGp(_Wasserstein):
    """A penalty pulls the critic's slope between real and fake to 1 (Gulrajani et al., 2017)."""

    penalty_weight: float  # lambda in the paper

    def penalty(self, critic: Critic, batch: CriticBatch) -> Tensor:
        """The weighted E[(||grad D(x)||_2 - 1)^2] at one point between each real and fake image.

        The points lie between augmented images, so they are images as the critic sees them.
        """
        between = interpolate(batch.real.augmented, batch.fake.augmented, batch.mix)
        between = between.detach().requires_grad_()
        slopes = gradient_norms(critic(between, batch.classes), between)
        return self.penalty_weight * (slopes - 1).square().mean()


@dataclass(frozen=True)
class Hinge(_Unconstrained):
    """Scores beyond 1 on their own side count no more (Lim and Ye, "Geometric GAN", 2017).

    With a weight, the slope between real and fake is penalised as in WGAN-GP.
    """

    penalty_weight: float

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """How far real scores are below 1 and fake ones above -1."""
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """-E[D(fake)]."""
        del real
        return -fake.mean()

    def penalty(self, critic: Critic, batch: CriticBatch) -> Tensor:
        """That of `WganGp`, or zero."""
        if not self.penalty_weight:
            return super().penalty(critic, batch)
        return WganGp(self.penalty_weight).penalty(critic, batch)


@dataclass(frozen=True)
class R3Gan(_Unconstrained):
    """A relativistic loss with two penalties (Huang et al., "The GAN is dead", 2024).

    Each real image is compared with a fake one, so dropping modes does not lower the loss. R1 and
    R2 penalise the critic's squared slope at real and at fake images. Both come from the scores
    that the loss uses, and are taken by the images before augmentation, as in the paper's code.
    """

    penalty_weight: float  # gamma in the paper
    compares_with_real: ClassVar[bool] = True
    penalises_images: ClassVar[bool] = True

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """-log of the probability that the real image of a pair outscores the fake one."""
        return F.softplus(fake - real).mean()

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """-log of the probability that the fake image of a pair outscores the real one."""
        return F.softplus(real - fake).mean()

    def penalty(self, critic: Critic, batch: CriticBatch) -> Tensor:
        """The weighted (E[||grad D(real)||^2] + E[||grad D(fake)||^2]) / 2."""
        del critic
        sides = batch.real, batch.fake
        scores = torch.cat([side.scores for side in sides])
        r1, r2 = squared_gradient_norms(scores, [side.images for side in sides])
        return self.penalty_weight / 2 * (r1.mean() + r2.mean())


def interpolate(real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """One point between each real and fake image, mix real + (1 - mix) fake: (B, 1, S, S)."""
    return torch.lerp(fake, real, mix.view(-1, 1, 1, 1).to(real.dtype))


def squared_gradient_norms(scores: Tensor, images: Sequence[Tensor]) -> list[Tensor]:
    """Squared Euclidean norm of each score's gradient by its own image, differentiable.

    Args:
        scores: each depends on one image alone.
        images: one tensor (B, 1, S, S) or several; the scores are differentiable by them.

    Returns:
        (B,) for each tensor, in at least float32.
    """
    slopes = torch.autograd.grad(scores.sum(), list(images), create_graph=True)
    return [_at_least_float32(slope).flatten(1).square().sum(dim=1) for slope in slopes]


def gradient_norms(scores: Tensor, images: Tensor) -> Tensor:
    """Euclidean norm of each score's gradient by its own image: (B,), differentiable.

    The constant under the root keeps its slope finite where the gradient is zero.
    """
    (squared,) = squared_gradient_norms(scores, [images])
    return (squared + 1e-12).sqrt()


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


OBJECTIVES: dict[str, Callable[[GanOptions], Objective]] = {
    "gan": lambda _options: Minimax(),
    "wgan": lambda options: Wgan(options.clip),
    "wgan-gp": lambda options: WganGp(options.penalty),
    "r3gan": lambda options: R3Gan(options.penalty),
    "hinge": lambda options: Hinge(options.penalty),
}
# Their penalties are per image, and batch norm couples the images of a batch.
WITHOUT_CRITIC_NORM = ("wgan-gp", "r3gan", "hinge")


def build_objective(options: GanOptions) -> Objective:
    """The objective that the options name.

    Raises:
        XrayError: the objective excludes the critic's batch norm.
    """
    if options.critic_norm and options.objective in WITHOUT_CRITIC_NORM:
        raise XrayError(
            f"The {options.objective} objective penalises the slope at each image, and batch norm "
            "makes that slope depend on the other images of the batch. Leave out --critic-norm."
        )
    return OBJECTIVES[options.objective](options)
