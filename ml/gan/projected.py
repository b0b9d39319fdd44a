"""A critic that sees images through a frozen network, and the light generator it teaches.

Sauer et al. ("Projected GANs Converge Faster", 2021) let small heads judge the features that a
network of photographs finds at four depths, mixed at random across channels and depths, so that
the heads cannot attend to a few features alone. The generator is that of Liu et al. ("Towards
Faster and Stabilized GAN Training", 2021), made lighter: each convolution is multiplied by the
sigmoid of another, and channels of large maps are weighed by small ones.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ml.gan.networks import SLOPE, Latent, Score, UpConv2d, as_maps, with_batch_std
from ml.imagenet import efficientnet_lite, frozen
from ml.options.gan import GanOptions

# Stages of EfficientNet-Lite0 whose maps are seen, and their channels: 1/4 to 1/32 of the image.
STAGES = {1: 24, 2: 40, 4: 112, 6: 320}
# Channels after mixing: deep maps are wide and small, and half of their channels say enough.
MIXED = (24, 40, 80, 160)
HEAD_WIDTH = 64
# Cells of each map, in either direction, whose means a summary of an image keeps.
SUMMARY_CELLS = 2


class GatedUpBlock(nn.Module):
    """Doubles the image; a second convolution says how much of each value passes."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.values, self.gates = UpConv2d(inputs, outputs), UpConv2d(inputs, outputs)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, 2H, 2W)."""
        # Two convolutions rather than the halves of one, which would leave channels-last memory.
        values: Tensor = self.norm(self.values(maps))
        gates: Tensor = self.gates(maps).sigmoid()
        return values * gates


class SkipExcitation(nn.Module):
    """Weighs the channels of large maps by what small ones show."""

    def __init__(self, inputs: int, outputs: int, side: int):
        super().__init__()
        self.cell = side // 4
        self.inner = nn.Linear(inputs * 4**2, outputs)
        self.outer = nn.Linear(outputs, outputs)

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        """(B, C, s, s), (B, D, S, S) -> (B, D, S, S)."""
        inner = F.leaky_relu(self.inner(F.avg_pool2d(small, self.cell).flatten(1)), SLOPE)
        weights: Tensor = self.outer(inner).sigmoid()
        return large * weights[:, :, None, None]


class GatedGenerator(nn.Module):
    """Blocks from 4 x 4 up to the image; each is weighed by the maps of 1/8 of its side."""

    def __init__(self, options: GanOptions):
        super().__init__()
        widths = _gated_widths(options)
        self.latent = Latent(options)
        values = self.latent.features, widths[0] * 4**2
        self.values, self.gates = nn.Linear(*values), nn.Linear(*values)
        self.norm = nn.BatchNorm2d(widths[0])
        self.blocks = nn.ModuleList(GatedUpBlock(*pair) for pair in pairwise(widths))
        self.skips = nn.ModuleList(
            SkipExcitation(widths[number], widths[number + 3], 4 * 2**number)
            for number in range(len(widths) - 3)
        )
        self.image = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """(B, Z), (B,) -> (B, 1, S, S) in [-1, 1]."""
        start = self.latent(latents, classes)
        maps = self.norm(as_maps(self.values(start), 4))
        levels = [maps * as_maps(self.gates(start), 4).sigmoid()]
        for number, block in enumerate(self.blocks, start=1):
            grown = block(levels[-1])
            if number >= 3:
                grown = self.skips[number - 3](levels[number - 3], grown)
            levels.append(grown)
        images: Tensor = self.image(levels[-1])
        return images.tanh()


def _gated_widths(options: GanOptions) -> list[int]:
    """Channels at 4, 8, ..., S px: half as many at twice the side, and half of that from 128 px."""
    halvings = int(math.log2(options.size / 4))
    widths = [options.width * min(2 ** (halvings - number), 8) for number in range(halvings + 1)]
    if options.size >= 128:
        widths[-1] = max(1, options.width // 2)
    return widths


class Seen(NamedTuple):
    """What a critic sees of a batch of images."""

    views: list[Tensor]  # one (B, C, h, w) for each head; the last is the image itself
    summary: Tensor  # (B, F); two images of a class are 1 apart, about


class ProjectedCritic(nn.Module):
    """Heads on the features of a frozen network, and one on the image itself.

    The frozen network has no copy in the state of the critic: its weights are installed. Its maps
    are centred and scaled to real images by `calibrate`, so that all depths weigh alike.
    """

    def __init__(self, options: GanOptions):
        super().__init__()
        # In a tuple, so that it is no part of the critic's parameters and state.
        self._frozen = (frozen(efficientnet_lite(0, pretrained=True)),)
        random = torch.Generator().manual_seed(options.seed)
        channels = tuple(STAGES.values())
        for number, (inputs, outputs) in enumerate(zip(channels, MIXED, strict=True)):
            mixing = torch.randn(outputs, inputs, 1, 1, generator=random) / math.sqrt(inputs)
            self.register_buffer(f"mixing{number}", mixing)
            self.register_buffer(f"mean{number}", torch.zeros(1, outputs, 1, 1))
            self.register_buffer(f"scale{number}", torch.ones(1, outputs, 1, 1))
            self.register_buffer(f"spread{number}", torch.ones(()))
        for number, (shallow, deep) in enumerate(pairwise(MIXED)):
            mixing = torch.randn(shallow, deep, 3, 3, generator=random) / math.sqrt(9 * deep)
            self.register_buffer(f"deeper{number}", mixing)
        sides = [max(1, options.size // 2 ** (number + 2)) for number in range(len(MIXED))]
        heads = [_Head(options, *pair) for pair in zip(MIXED, sides, strict=True)]
        self.heads = nn.ModuleList([*heads, _ImageHead(options)])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the frozen network with the rest."""
        self._frozen[0]._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """(B, 1, S, S), (B,) -> (B,), the mean over the heads."""
        return self.score(self.see(images).views, classes).mean(dim=1)

    def score(self, views: Sequence[Tensor], classes: Tensor) -> Tensor:
        """The views of (B,) images, (B,) -> (B, heads): head k sees view k alone."""
        scores = [head(view, classes) for head, view in zip(self.heads, views, strict=True)]
        return torch.stack(scores, dim=1)

    def see(self, images: Tensor) -> Seen:
        """(B, 1, S, S) in [-1, 1] -> what the heads see, differentiable by the images."""
        maps = self._maps(images)
        views = [
            (view - self.get_buffer(f"mean{k}")) / self.get_buffer(f"scale{k}")
            for k, view in enumerate(self._mixed(maps))
        ]
        summaries = [_summary(part) / self.get_buffer(f"spread{k}") for k, part in enumerate(maps)]
        return Seen([*views, images], torch.cat(summaries, dim=1))

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Centre and scale all maps so that those of real images have mean 0 and deviation 1.

        Args:
            batches: (B, 1, S, S) each, real images as the critic will see them.
        """
        parts = [self._maps(batch) for batch in batches]
        mixed = [self._mixed(maps) for maps in parts]
        for k in range(len(MIXED)):
            views = torch.cat([views[k] for views in mixed])
            self.get_buffer(f"mean{k}").copy_(views.mean(dim=(0, 2, 3), keepdim=True))
            deviation = views.std(dim=(0, 2, 3), keepdim=True)
            # A channel that is the same everywhere says nothing, and must not become infinite.
            self.get_buffer(f"scale{k}").copy_(deviation + 1e-3)
            summaries = torch.cat([_summary(maps[k]) for maps in parts])
            # The mean square of the distance of two images, shared evenly among the depths.
            squared = 2 * summaries.var(dim=0).sum() * len(MIXED)
            self.get_buffer(f"spread{k}").copy_(squared.sqrt() + 1e-6)

    def _maps(self, images: Tensor) -> list[Tensor]:
        """(B, 1, S, S) -> the maps of each depth, in float32 on CPUs.

        There, the weight-free convolutions of a channel each are slower in bfloat16.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        if images.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self._frozen_maps(images.float())
        return self._frozen_maps(images)

    def _frozen_maps(self, images: Tensor) -> list[Tensor]:
        network: Any = self._frozen[0]
        maps, seen = network.bn1(network.conv_stem(images)), []
        for number, stage in enumerate(network.blocks):
            maps = stage(maps)
            if number in STAGES:
                seen.append(maps)
        return seen

    def _mixed(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Mix channels at each depth, then let every depth see the deeper ones."""
        views = [F.conv2d(part, self.get_buffer(f"mixing{k}")) for k, part in enumerate(maps)]
        for k in reversed(range(len(views) - 1)):
            side = views[k].shape[-2:]
            deeper = F.interpolate(views[k + 1], side, mode="bilinear")
            deeper = F.conv2d(deeper, self.get_buffer(f"deeper{k}"), padding=1)
            views[k] = (views[k] + deeper) / math.sqrt(2)
        return views


def _summary(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, 4 C): the mean of each quarter of the image."""
    return F.adaptive_avg_pool2d(maps, SUMMARY_CELLS).flatten(1)


class _Head(nn.Module):
    """Convolutions down to 4 x 4 and a score: (B, C, s, s), (B,) -> (B,)."""

    def __init__(self, options: GanOptions, channels: int, side: int):
        super().__init__()
        first = 3 if side > 4 else 1
        layers: list[nn.Module] = [
            nn.Conv2d(channels, HEAD_WIDTH, first, padding=first // 2),
            nn.LeakyReLU(SLOPE),
        ]
        while side > 4:
            layers += _halving(HEAD_WIDTH, HEAD_WIDTH)
            side //= 2
        self.body = nn.Sequential(*layers)
        self.batch_std = options.batch_std
        last = 3 if side > 2 else 1
        inputs = HEAD_WIDTH + options.batch_std
        self.last = nn.Conv2d(inputs, HEAD_WIDTH, last, padding=last // 2)
        self.score = Score(options, HEAD_WIDTH * side**2)

    def forward(self, maps: Tensor, classes: Tensor) -> Tensor:
        maps = self.body(maps)
        if self.batch_std:
            maps = with_batch_std(maps)
        maps = F.leaky_relu(self.last(maps), SLOPE)
        score: Tensor = self.score(maps.flatten(1), classes)
        return score


class _ImageHead(nn.Module):
    """A small critic of the image itself: what the frozen network is blind to is still judged."""

    def __init__(self, options: GanOptions):
        super().__init__()
        halvings = int(math.log2(options.size / 4))
        widths = [1, *(min(8 * 2**number, HEAD_WIDTH) for number in range(halvings))]
        layers = [layer for pair in pairwise(widths) for layer in _halving(*pair)]
        self.body = nn.Sequential(*layers)
        self.head = _Head(options, widths[-1], 4)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        score: Tensor = self.head(self.body(images), classes)
        return score


def _halving(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
