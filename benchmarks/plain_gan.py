"""One iteration of WGAN-GP or R3GAN as it is usually written, to measure `ml.gan.step` against.

Real, fake and interpolated images pass the critic one after the other, and R3GAN's penalties take
separate passes; up-sampling and convolution are two layers; memory is contiguous float32; the
optimiser is Adam's default. Popular code does not detach the fakes in a critic step, so the
generator's gradients are computed for nothing; `detached` does without that.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ml.gan.diffaugment import diff_augment
from ml.gan.networks import DownConv2d, UpConv2d
from ml.gan.step import Draw, to_signed
from ml.options.gan import GanOptions


class PlainUp(nn.Conv2d):
    """Up-sampling and convolution one after the other."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, 2H, 2W)."""
        return super().forward(F.interpolate(maps, scale_factor=2.0, mode="nearest"))


class PlainDown(nn.Conv2d):
    """Convolution and pooling one after the other."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H/2, W/2)."""
        return F.avg_pool2d(super().forward(maps), 2)


def plainly(network: nn.Module) -> nn.Module:
    """A copy of a network with plain layers in contiguous memory, and the same weights."""
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    for module in network.modules():
        match module:
            case UpConv2d():
                module.__class__ = PlainUp
            case DownConv2d():
                module.__class__ = PlainDown
    return network


def critic_loss(
    generator: nn.Module,
    critic: nn.Module,
    draw: Draw,
    options: GanOptions,
    *,
    detached: bool = False,
) -> Tensor:
    """The WGAN-GP critic's loss with its penalty, in three passes."""
    real = to_signed(draw.images, draw.latents.dtype)
    fake = generator(draw.latents, draw.classes)
    if detached:
        fake = fake.detach()
    loss = critic(fake, draw.classes).mean() - critic(real, draw.classes).mean()
    if not options.penalty:
        return loss
    mix = draw.mix.view(-1, 1, 1, 1)
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
    scores = critic(between, draw.classes)
    (slopes,) = torch.autograd.grad(scores, between, torch.ones_like(scores), create_graph=True)
    return loss + options.penalty * ((slopes.flatten(1).norm(dim=1) - 1) ** 2).mean()


def r3gan_critic_loss(
    generator: nn.Module,
    critic: nn.Module,
    draw: Draw,
    options: GanOptions,
    *,
    detached: bool = False,
) -> Tensor:
    """The R3GAN critic's loss with its two penalties, in four passes."""
    real = to_signed(draw.images, draw.latents.dtype)
    fake = generator(draw.latents, draw.classes)
    if detached:
        fake = fake.detach()

    def scores(images: Tensor, side: int) -> Tensor:
        augmented = diff_augment(images, draw.changes[:, side], options.augment)
        result: Tensor = critic(augmented, draw.classes)
        return result

    loss = F.softplus(scores(fake, 1) - scores(real, 0)).mean()
    for side, images in enumerate((real, fake)):
        images = images.detach().requires_grad_()
        total = scores(images, side).sum()
        (slopes,) = torch.autograd.grad(total, images, create_graph=True)
        loss = loss + options.penalty / 2 * slopes.square().sum(dim=(1, 2, 3)).mean()
    return loss


def _generator_loss(
    generator: nn.Module, critic: nn.Module, draw: Draw, options: GanOptions
) -> Tensor:
    scores = critic(generator(draw.latents, draw.classes), draw.classes)
    if options.objective == "r3gan":
        real = critic(to_signed(draw.images, draw.latents.dtype), draw.classes)
        return F.softplus(real - scores).mean()
    loss: Tensor = -scores.mean()
    return loss


@dataclass
class PlainStep:
    """The whole iteration on separate networks, without augmentation of the synthetic images."""

    generator: nn.Module
    critic: nn.Module
    options: GanOptions
    detached: bool = False

    def __post_init__(self) -> None:
        betas = (self.options.beta1, self.options.beta2)
        self.generator_optimizer = torch.optim.Adam(
            self.generator.parameters(), lr=self.options.generator_learning_rate, betas=betas
        )
        self.critic_optimizer = torch.optim.Adam(
            self.critic.parameters(), lr=self.options.critic_learning_rate, betas=betas
        )

    def __call__(self, draws: list[Draw]) -> None:
        """Critic updates, then one of the generator."""
        objective_loss = r3gan_critic_loss if self.options.objective == "r3gan" else critic_loss
        for draw in draws[:-1]:
            self.critic_optimizer.zero_grad()
            loss = objective_loss(
                self.generator, self.critic, draw, self.options, detached=self.detached
            )
            torch.autograd.backward(loss)
            self.critic_optimizer.step()
        self.generator_optimizer.zero_grad()
        loss = _generator_loss(self.generator, self.critic, draws[-1], self.options)
        torch.autograd.backward(loss)
        self.generator_optimizer.step()
