"""What generator and critic play for: four games behind one interface.

Scores are a critic's linear outputs, shape (B,). The losses are to be made small.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ml.errors import XrayError
from ml.options import GanOptions

Critic = Callable[[Tensor, Tensor], Tensor]  # images (B, 1, S, S), classes (B,) -> scores (B,)


class Objective(Protocol):
    """One adversarial game."""

    compares_with_real: ClassVar[bool]  # whether the generator's loss needs real images

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the critic makes small, without its penalty; scores (B,) -> scalar."""
        ...

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """What the generator makes small; scores (B,) -> scalar. Most ignore the real images."""
        ...

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, classes: Tensor, mix: Tensor
    ) -> Tensor:
        """What keeps the critic's slope in bounds, weighted; zero where there is nothing.

        Args:
            critic: scores images of shape (B, 1, S, S).
            real: images, without gradient.
            fake: images, without gradient.
            classes: (B,) of both.
            mix: (B,) uniform in [0, 1], the place between a real and a fake image.
        """
        ...

    def constrain(self, critic: nn.Module) -> None:
        """Bring the critic's weights into their range after a step."""
        ...


class _Unconstrained:
    """The parts that most games do without."""

    compares_with_real: ClassVar[bool] = False

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, classes: Tensor, mix: Tensor
    ) -> Tensor:
        """None."""
        del critic, fake, classes, mix
        return real.new_zeros(())

    def constrain(self, critic: nn.Module) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Minimax(_Unconstrained):
    """The original game with the non-saturating generator loss (Goodfellow et al., 2014).

    The sigmoid is part of the loss, where it is computed without overflow.
    """

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Binary cross-entropy: real images are ones, fake images zeros."""
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """-log of the chance that the fakes are taken for real."""
        del real
        return F.softplus(-fake).mean()


class _Wasserstein(_Unconstrained):
    """The critic's mean difference, an estimate of the Wasserstein-1 distance."""

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """E[D(fake)] - E[D(real)]."""
        return fake.mean() - real.mean()

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """-E[D(fake)]."""
        del real
        return -fake.mean()


@dataclass(frozen=True)
class Wgan(_Wasserstein):
    """Weights clipped to a small range bound the critic's slope (Arjovsky et al., 2017)."""

    clip: float

    @torch.no_grad()
    def constrain(self, critic: nn.Module) -> None:
        """Clip every weight to [-clip, clip]."""
        for parameter in critic.parameters():
            parameter.clamp_(-self.clip, self.clip)


@dataclass(frozen=True)
class WganGp(_Wasserstein):
    """A penalty on the critic's slope between real and fake (Gulrajani et al., 2017)."""

    penalty_weight: float  # the report's lambda

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, classes: Tensor, mix: Tensor
    ) -> Tensor:
        """The weighted E[(||grad D(x)||_2 - 1)^2] at a place between each real and fake image."""
        between = interpolate(real, fake, mix).requires_grad_()
        slopes = gradient_norms(critic(between, classes), between)
        return self.penalty_weight * (slopes - 1).square().mean()


@dataclass(frozen=True)
class R3Gan(_Unconstrained):
    """A relativistic game with two penalties (Huang et al., "The GAN is dead", 2024).

    Each real image is compared with a fake one: there is no way to drop modes that pays. R1 and R2
    penalise the critic's squared slope at real and at fake images.
    """

    penalty_weight: float  # the paper's gamma
    compares_with_real: ClassVar[bool] = True

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """-log of the chance that the real image of a pair outscores the fake one."""
        return F.softplus(fake - real).mean()

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """The same with the sides changed."""
        return F.softplus(real - fake).mean()

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, classes: Tensor, mix: Tensor
    ) -> Tensor:
        """The weighted (E[||grad D(real)||^2] + E[||grad D(fake)||^2]) / 2."""
        del mix
        images = torch.cat([real, fake]).requires_grad_()
        slopes = gradient_norms(critic(images, torch.cat([classes, classes])), images)
        # The mean over all images of both sides is half the sum of the two means.
        return self.penalty_weight * slopes.square().mean()


def interpolate(real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """One place between each real and fake image, mix real + (1 - mix) fake: (B, 1, S, S)."""
    return torch.lerp(fake, real, mix.view(-1, 1, 1, 1).to(real.dtype))


def gradient_norms(scores: Tensor, images: Tensor) -> Tensor:
    """Euclidean norm of each score's gradient by its own image: (B,), differentiable.

    In at least float32. The constant under the root keeps its slope finite where the gradient is
    zero.
    """
    (slopes,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    if slopes.dtype in (torch.bfloat16, torch.float16):
        slopes = slopes.float()
    return (slopes.flatten(1).square().sum(dim=1) + 1e-12).sqrt()


OBJECTIVES: dict[str, Callable[[GanOptions], Objective]] = {
    "gan": lambda _options: Minimax(),
    "wgan": lambda options: Wgan(options.clip),
    "wgan-gp": lambda options: WganGp(options.penalty),
    "r3gan": lambda options: R3Gan(options.penalty),
}
# Their penalties are per image; batch norm couples the images of a batch.
WITHOUT_CRITIC_NORM = ("wgan-gp", "r3gan")


def build_objective(options: GanOptions) -> Objective:
    """The objective that the options name.

    Raises:
        XrayError: there is none of that name, or it does not allow the critic that is asked for.
    """
    if options.objective not in OBJECTIVES:
        raise XrayError(
            f"unknown objective {options.objective!r}, expected one of {', '.join(OBJECTIVES)}"
        )
    if options.critic_norm and options.objective in WITHOUT_CRITIC_NORM:
        raise XrayError(
            f"{options.objective} penalises the slope at each image, and batch norm makes it "
            f"depend "
            "on the others of its batch: leave out --critic-norm"
        )
    return OBJECTIVES[options.objective](options)
