"""The objectives: their losses, and what bounds the critic."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from ml.errors import XrayError
from ml.gan.objectives import (
    Critic,
    CriticBatch,
    Minimax,
    R3Gan,
    ScoredImages,
    Wgan,
    WganGp,
    build_objective,
    gradient_norms,
    interpolate,
)
from ml.option_fields import InvalidOptions
from ml.options.gan import ObjectiveName
from tests.support.gan_world import tiny

CLASSES = torch.zeros(6, dtype=torch.int64)


class Slope(nn.Module):
    """A linear critic whose input gradient has the given norm everywhere."""

    def __init__(self, norm: float):
        super().__init__()
        direction = torch.arange(1.0, 17.0)
        self.weight = nn.Parameter(direction / direction.norm() * norm)

    def forward(self, images: Tensor, _classes: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight


def scored(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> CriticBatch:
    """A batch without augmentation whose scores are differentiable by the images."""
    sides = [
        ScoredImages(images, images, critic(images, CLASSES))
        for images in (real.requires_grad_(), fake.requires_grad_())
    ]
    return CriticBatch(*sides, CLASSES, mix)


@pytest.fixture
def images() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(6, 1, 4, 4), torch.randn(6, 1, 4, 4), torch.rand(6)


def test_gradient_penalty_of_unit_slope_critic_is_zero(
    images: tuple[Tensor, Tensor, Tensor],
) -> None:
    real, fake, mix = images
    critic = Slope(1.0)
    assert WganGp(10.0).penalty(critic, scored(critic, real, fake, mix)).item() < 1e-10


def test_gradient_penalty_grows_with_the_square_of_the_excess_slope(
    images: tuple[Tensor, Tensor, Tensor],
) -> None:
    real, fake, mix = images
    critic = Slope(3.0)
    penalty = WganGp(10.0).penalty(critic, scored(critic, real, fake, mix))
    assert penalty.item() == pytest.approx(10 * (3 - 1) ** 2, rel=1e-5)


def test_gradient_penalty_reaches_the_critics_weights(
    images: tuple[Tensor, Tensor, Tensor],
) -> None:
    real, fake, mix = images
    critic = Slope(3.0)
    WganGp(10.0).penalty(critic, scored(critic, real, fake, mix)).backward()
    # d/dw of 10 (|w| - 1)^2 is 20 (|w| - 1) w / |w|.
    assert critic.weight.grad is not None
    torch.testing.assert_close(critic.weight.grad, 40 * critic.weight.detach() / 3)


def test_gradient_norm_of_a_flat_critic_has_finite_slopes() -> None:
    images = torch.randn(3, 1, 4, 4, requires_grad=True)
    weight = torch.zeros(16, requires_grad=True)
    gradient_norms(images.flatten(1) @ weight, images).sum().backward()
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()


def test_interpolates_lie_between_each_pair(images: tuple[Tensor, Tensor, Tensor]) -> None:
    real, fake, _ = images
    mix = torch.tensor([0.0, 1.0, 0.25, 0.5, 0.75, 1.0])
    between = interpolate(real, fake, mix)
    torch.testing.assert_close(between[0], fake[0])
    torch.testing.assert_close(between[1], real[1])
    torch.testing.assert_close(between[2], 0.25 * real[2] + 0.75 * fake[2])


def test_r3gan_penalises_the_slope_on_both_sides(images: tuple[Tensor, Tensor, Tensor]) -> None:
    real, fake, mix = images
    critic = Slope(3.0)
    penalty = R3Gan(2.0).penalty(critic, scored(critic, real, fake, mix))
    assert penalty.item() == pytest.approx(2.0 / 2 * (9 + 9), rel=1e-5)


def test_clipping_holds_every_weight() -> None:
    critic = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    for parameter in critic.parameters():
        nn.init.normal_(parameter)
    Wgan(0.01).constrain(critic)
    assert all(parameter.abs().max() <= 0.01 for parameter in critic.parameters())


def test_minimax_losses_are_cross_entropies() -> None:
    real, fake = torch.tensor([0.3, -1.2]), torch.tensor([2.0, 0.1])
    expected = -(torch.sigmoid(real).log().mean() + (1 - torch.sigmoid(fake)).log().mean())
    torch.testing.assert_close(Minimax().critic_loss(real, fake), expected)
    torch.testing.assert_close(
        Minimax().generator_loss(fake, real), -torch.sigmoid(fake).log().mean()
    )
    undecided = Minimax().critic_loss(torch.zeros(2), torch.zeros(2))
    assert undecided.item() == pytest.approx(2 * math.log(2))


def test_wasserstein_losses_are_mean_differences() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 0.0])
    assert Wgan(0.01).critic_loss(real, fake).item() == pytest.approx(-2.5)
    assert WganGp(10.0).generator_loss(fake, real).item() == pytest.approx(0.5)


def test_relativistic_loss_depends_on_differences_alone() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 0.0])
    objective = R3Gan(1.0)
    for loss in (objective.critic_loss, objective.generator_loss):
        torch.testing.assert_close(loss(real, fake), loss(real + 7, fake + 7))
    torch.testing.assert_close(
        objective.critic_loss(real, fake), objective.generator_loss(real, fake)
    )


@pytest.mark.parametrize("objective", ["wgan-gp", "r3gan"])
def test_batch_norm_under_a_penalty_is_refused(objective: str) -> None:
    with pytest.raises(XrayError, match="Leave out --critic-norm"):
        build_objective(tiny(objective, critic_norm=True))


def test_unknown_objective_names_the_known_ones() -> None:
    with pytest.raises(
        InvalidOptions, match="one of gan, wgan, wgan-gp, r3gan, hinge, got 'lsgan'"
    ):
        tiny(objective="lsgan")


@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_every_objective_of_the_options_can_be_built(name: str) -> None:
    options = tiny(objective=name, critic_norm=False)
    assert callable(build_objective(options).critic_loss)
