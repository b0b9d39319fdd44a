"""Convolutions that also double or halve the image, in one operation instead of two.

Nearest up-sampling by two followed by a 3 x 3 convolution reads every value up to four times with
different weights. Adding the weights first gives a transposed convolution with a 4 x 4 kernel and
stride 2: the same numbers (to rounding) from 4/9 of the products, and no enlarged map in memory.
Halving by the mean of 2 x 2 after a 3 x 3 convolution is the mirror image. The parameters are those
of the 3 x 3 convolution, so checkpoints do not know which way they are computed.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ml.options.gan import GanOptions


class UpConv2d(nn.Conv2d):
    """Nearest up-sampling by 2, then a 3 x 3 convolution: (B, C, H, W) -> (B, D, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """One transposed convolution."""
        kernel = _sum_of_neighbours(self.weight.flip(2, 3)).transpose(0, 1)
        return F.conv_transpose2d(maps, kernel, self.bias, stride=2, padding=1)


class DownConv2d(nn.Conv2d):
    """A 3 x 3 convolution, then the mean of each 2 x 2: (B, C, H, W) -> (B, D, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """One convolution with stride 2."""
        return F.conv2d(maps, _sum_of_neighbours(self.weight) / 4, self.bias, stride=2, padding=1)


def _sum_of_neighbours(kernel: Tensor) -> Tensor:
    """(D, C, 3, 3) -> (D, C, 4, 4): the kernel convolved with a 2 x 2 block of ones."""
    return (
        F.pad(kernel, (0, 1, 0, 1))
        + F.pad(kernel, (1, 0, 0, 1))
        + F.pad(kernel, (0, 1, 1, 0))
        + F.pad(kernel, (1, 0, 1, 0))
    )


# The report's text; steeper slopes serve the other networks better.
REPORT_SLOPE = 0.01
SLOPE = 0.2
REPORT_GENERATOR_FILTERS = (256, 128, 64, 32)
REPORT_CRITIC_FILTERS = (1, 16, 32, 64, 128, 256)
# Neighbours in a batch whose spread is shown to the critic together.
STD_GROUP = 4


class Latent(nn.Module):
    """What a generator starts from: the latent, and the wanted class where it is conditional."""

    def __init__(self, options: GanOptions):
        super().__init__()
        classes = len(options.label_names)
        self.classes = nn.Embedding(classes, options.latent) if options.conditional else None
        self.features = options.latent * (2 if options.conditional else 1)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """(B, Z), (B,) -> (B, features)."""
        if self.classes is None:
            return latents
        # Of the latent's own length, whatever the embedding learns: neither drowns the other.
        wanted = F.normalize(self.classes(classes), dim=1) * math.sqrt(latents.shape[1])
        return torch.cat([latents, wanted], dim=1)


class Score(nn.Module):
    """The last layer of a critic: linear, plus how well the image fits its class.

    The class enters as a product of its embedding with the image's features (Miyato and Koyama,
    "cGANs with Projection Discriminator", 2018).
    """

    def __init__(self, options: GanOptions, features: int):
        super().__init__()
        classes = len(options.label_names)
        self.linear = nn.Linear(features, 1)
        self.classes = nn.Embedding(classes, features) if options.conditional else None

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """(B, F), (B,) -> (B,)."""
        score: Tensor = self.linear(features)[:, 0]
        if self.classes is None:
            return score
        fit: Tensor = (self.classes(classes) * features).sum(dim=1)
        return score + fit / math.sqrt(features.shape[1])


class MlpGenerator(nn.Module):
    """The basic GAN's generator: dense layers alone (Goodfellow et al., 2014)."""

    def __init__(self, options: GanOptions):
        super().__init__()
        self.size = options.size
        self.latent = Latent(options)
        widths = [self.latent.features, 256, 512, 1024]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers, nn.Linear(widths[-1], options.size**2), nn.Tanh())

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """(B, Z), (B,) -> (B, 1, S, S) in [-1, 1]."""
        images: Tensor = self.body(self.latent(latents, classes))
        return images.view(-1, 1, self.size, self.size)


class MlpCritic(nn.Module):
    """The basic GAN's discriminator: dense layers alone."""

    def __init__(self, options: GanOptions):
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in ((options.size**2, 512), (512, 256)):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers)
        self.score = Score(options, 256)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """(B, 1, S, S), (B,) -> (B,)."""
        score: Tensor = self.score(self.body(images), classes)
        return score


class ReportGenerator(nn.Module):
    """The report's generator: a dense layer and four up-sampling convolution blocks.

    Each block: up-sampling by two, convolution with 256, 128, 64 or 32 filters, batch norm before
    the activation, LeakyReLU; then cropping to the image and tanh. A dense layer of 16 x 16 gives
    the report's 256 px without cropping; sizes that are no multiple of 16 are cropped from the
    next larger one. The report does not say how many channels the dense layer has (here as the
    first block) nor how one channel comes from 32 (here a last convolution).
    """

    def __init__(self, options: GanOptions):
        super().__init__()
        self.size, self.start = options.size, math.ceil(options.size / 16)
        first = REPORT_GENERATOR_FILTERS[0]
        self.latent = Latent(options)
        self.dense = nn.Linear(self.latent.features, first * self.start**2)
        layers: list[nn.Module] = []
        widths = (first, *REPORT_GENERATOR_FILTERS)
        for inputs, outputs in pairwise(widths):
            layers.append(UpConv2d(inputs, outputs))
            layers += [nn.BatchNorm2d(outputs)] if options.generator_norm else []
            layers.append(nn.LeakyReLU(REPORT_SLOPE))
        self.blocks = nn.Sequential(*layers)
        self.image = nn.Conv2d(REPORT_GENERATOR_FILTERS[-1], 1, 3, padding=1)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """(B, Z), (B,) -> (B, 1, S, S) in [-1, 1]."""
        maps = self.dense(self.latent(latents, classes))
        maps = as_maps(maps, self.start)
        images: Tensor = self.image(self.blocks(maps))
        edge = (images.shape[-1] - self.size) // 2
        return images[..., edge : edge + self.size, edge : edge + self.size].tanh()


class ExactConv2d(nn.Conv2d):
    """A convolution that takes maps of one pixel in float32 on a CPU, whatever autocast says.

    There, the bfloat16 kernel of oneDNN gives wrong weight gradients for 3 x 3 kernels of stride 2.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, h, w)."""
        if not torch.is_autocast_enabled("cpu") or maps.shape[-2:] != (1, 1):
            return super().forward(maps)
        with torch.autocast("cpu", enabled=False):
            return super().forward(maps.float())


class ReportCritic(nn.Module):
    """The report's critic: six convolutions with 1, 16, 32, 64, 128, 256 filters, one dense layer.

    LeakyReLU and dropout follow each. The report is silent on strides: the first convolution keeps
    the size, each of the others halves it. Batch norm only where the objective allows it, and never
    on the first layer.
    """

    def __init__(self, options: GanOptions):
        super().__init__()
        layers: list[nn.Module] = []
        widths = (1, *REPORT_CRITIC_FILTERS)
        side = options.size
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            stride = 1 if number == 0 else 2
            side = math.ceil(side / stride)
            layers.append(ExactConv2d(inputs, outputs, 3, stride=stride, padding=1))
            layers += [nn.BatchNorm2d(outputs)] if options.critic_norm and number else []
            layers.append(nn.LeakyReLU(REPORT_SLOPE))
            layers += [nn.Dropout(options.dropout)] if options.dropout else []
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.score = Score(options, widths[-1] * side**2)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """(B, 1, S, S), (B,) -> (B,)."""
        score: Tensor = self.score(self.body(images), classes)
        return score


class UpBlock(nn.Module):
    """A residual block that doubles the image (as in Gulrajani et al., 2017, appendix F)."""

    def __init__(self, inputs: int, outputs: int, *, norm: bool):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs) if norm else nn.Identity()
        self.conv1 = UpConv2d(inputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, 2H, 2W)."""
        inner: Tensor = self.conv1(F.leaky_relu(self.norm1(maps), SLOPE))
        inner = self.conv2(F.leaky_relu(self.norm2(inner), SLOPE))
        # A 1 x 1 convolution commutes with up-sampling: a quarter of the work this way round.
        return inner + F.interpolate(self.skip(maps), scale_factor=2.0, mode="nearest")


class DownBlock(nn.Module):
    """A residual block that halves the image; no norm, since the penalty is per image."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        # The channels grow where the image shrinks: at the larger size they would cost twice.
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv2 = DownConv2d(inputs, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H/2, W/2)."""
        inner: Tensor = self.conv1(F.leaky_relu(maps, SLOPE))
        inner = self.conv2(F.leaky_relu(inner, SLOPE))
        shortcut: Tensor = self.skip(F.avg_pool2d(maps, 2))
        return inner + shortcut


class ResnetGenerator(nn.Module):
    """Residual blocks from 4 x 4 up to the image; twice the channels at half the size, up to 8."""

    def __init__(self, options: GanOptions):
        super().__init__()
        widths = _resnet_widths(options)[::-1]
        self.start = 4
        self.latent = Latent(options)
        self.dense = nn.Linear(self.latent.features, widths[0] * self.start**2)
        norm = options.generator_norm
        pairs = pairwise(widths)
        self.blocks = nn.Sequential(*(UpBlock(*pair, norm=norm) for pair in pairs))
        self.norm = nn.BatchNorm2d(widths[-1]) if norm else nn.Identity()
        self.image = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """(B, Z), (B,) -> (B, 1, S, S) in [-1, 1]."""
        maps = as_maps(self.dense(self.latent(latents, classes)), self.start)
        maps = F.leaky_relu(self.norm(self.blocks(maps)), SLOPE)
        images: Tensor = self.image(maps)
        return images.tanh()


class ResnetCritic(nn.Module):
    """Residual blocks from the image down to 4 x 4, the mirror image of the generator."""

    def __init__(self, options: GanOptions):
        super().__init__()
        widths = _resnet_widths(options)
        self.image = nn.Conv2d(1, widths[0], 3, padding=1)
        pairs = pairwise(widths)
        self.blocks = nn.Sequential(*(DownBlock(*pair) for pair in pairs))
        self.batch_std = options.batch_std
        self.last = nn.Conv2d(widths[-1] + options.batch_std, widths[-1], 3, padding=1)
        self.score = Score(options, widths[-1] * 4**2)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """(B, 1, S, S), (B,) -> (B,)."""
        maps = F.leaky_relu(self.blocks(self.image(images)), SLOPE)
        if self.batch_std:
            maps = with_batch_std(maps)
        maps = F.leaky_relu(self.last(maps), SLOPE)
        score: Tensor = self.score(maps.flatten(1), classes)
        return score


def _resnet_widths(options: GanOptions) -> list[int]:
    """Channels at S, S/2, ..., 4 px."""
    halvings = int(math.log2(options.size / 4))
    return [options.width * min(2**number, 8) for number in range(halvings + 1)]


def as_maps(features: Tensor, side: int) -> Tensor:
    """(B, side * side * C) -> (B, C, side, side) in channels-last memory, without a copy."""
    # Not by the batch's length, which an exported graph would turn into a constant.
    return features.view(-1, side, side, features.shape[1] // side**2).permute(0, 3, 1, 2)


def with_batch_std(maps: Tensor) -> Tensor:
    """Append one map: the mean spread of each value within groups of the batch.

    A critic that sees it notices images that are all alike (Karras et al., "Progressive Growing of
    GANs", 2018). (B, C, H, W) -> (B, C + 1, H, W); B must be a multiple of the group.
    """
    groups = maps.reshape(-1, min(STD_GROUP, len(maps)), *maps.shape[1:])  # (G, n, C, H, W)
    # The constant under the root keeps its slope finite where the group is all one image.
    spread = (groups.var(dim=1, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    column = spread.repeat_interleave(groups.shape[1])[:, None, None, None]
    return torch.cat([maps, column.expand(-1, 1, *maps.shape[2:])], dim=1)
