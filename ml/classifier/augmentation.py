"""Training-time augmentation of whole batches.

Two aims: the report's small geometric changes (rotation, shear, horizontal flip, tilt), which
enlarge a scarce class, and changes that take away shortcuts, since burnt-in letters, borders, the
brightness curve of a hospital's scanner and the compression of an archive tell the source of a film
and with it its label.

A transform of torchvision v2 draws once per call: a batch would share one rotation. Film by film v2
costs a CPU about as much as the code here, but starts every operation once for each film, where a
GPU wants it once for a batch. So what differs in an amount alone is batched here, and v2 does what
is done film by film anyway: compression.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import jpeg  # type: ignore[import-untyped]  # no hints


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers for the films of a global batch, of which those in hand are a part.

    What a film gets does not depend on how many processes share the batch.

    Attributes:
        generator: source of all randomness, on the CPU.
        count: films of the global batch.
        part: those in hand.
    """

    generator: torch.Generator
    count: int
    part: slice

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""
        return torch.rand(self.count, *shape, generator=self.generator)[self.part]

    def spread(self, reach: float, *shape: int) -> Tensor:
        """(B, *shape) uniform in [-reach, reach]."""
        return (self.uniform(*shape) * 2 - 1) * reach

    def chance(self, share: float) -> Tensor:
        """(B,) true with the given probability."""
        return self.uniform() < share

    def grain(self, films: Tensor) -> Tensor:
        """Standard normal noise of the films' shape, drawn for those in hand alone."""
        seeds = torch.randint(2**62, (self.count,), generator=self.generator)[self.part]
        noise = torch.empty(films.shape)
        for one, seed in zip(noise, seeds.tolist(), strict=True):
            one.normal_(generator=torch.Generator().manual_seed(seed))
        return noise.to(films)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Strengths of the random changes; angles in degrees, lengths as shares of the side."""

    rotation: float = 7.0
    shear: float = 3.0
    scale: float = 0.12
    shift: float = 0.05
    flip: float = 0.5
    gamma: float = 0.35
    contrast: float = 0.25
    brightness: float = 0.12
    noise: float = 0.03
    blur: float = 0.25
    corner_mask: float = 0.4
    border_mask: float = 0.3
    compression: float = 0.25
    lowest_quality: int = 25  # of JPEG, 1 to 100
    highest_quality: int = 90

    def __call__(self, films: Tensor, draws: Draws) -> Tensor:
        """Change every film of the batch in its own way.

        Args:
            films: (B, 1, S, S) float in [0, 1].
            draws: for these films.

        Returns:
            (B, 1, S, S) float in [0, 1].
        """
        films = self._compress(films, draws)
        films = self._warp(films, draws)
        films = self._soften(films, draws)
        films = self._change_intensity(films, draws)
        return self._mask(films, draws)

    def _compress(self, films: Tensor, draws: Draws) -> Tensor:
        """Give some films the blocks and ripples of JPEG."""
        span = self.highest_quality - self.lowest_quality
        quality = (self.lowest_quality + draws.uniform() * span).long().tolist()
        chosen = draws.chance(self.compression).nonzero().flatten().tolist()
        if not chosen:
            return films
        grey = (films[chosen, 0] * 255).round().byte().cpu().numpy()
        # As Pillow images: torchvision's own coder of tensors is to be removed.
        pictures = [
            jpeg(Image.fromarray(film), quality[place])
            for film, place in zip(grey, chosen, strict=True)
        ]
        lossy = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
        places = torch.tensor(chosen, device=films.device)
        return films.index_copy(0, places, lossy[:, None].to(films) / 255)

    def _warp(self, films: Tensor, draws: Draws) -> Tensor:
        """Turn, shear, mirror; zooming with a shift crops as well."""
        angle = draws.spread(self.rotation) * math.pi / 180
        shear = torch.tan(draws.spread(self.shear) * math.pi / 180)
        zoom = 1 + draws.spread(self.scale)
        mirror = torch.where(draws.chance(self.flip), -1.0, 1.0)
        shift = draws.spread(2 * self.shift, 2)
        if not len(films):
            return films  # torch makes no grid for none
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = torch.stack(
            [
                torch.stack([mirror * cos, mirror * (shear * cos - sin), shift[:, 0]], dim=-1),
                torch.stack([sin, shear * sin + cos, shift[:, 1]], dim=-1),
            ],
            dim=1,
        )  # (B, 2, 3)
        grid = F.affine_grid(rows.to(films), list(films.shape), align_corners=False)
        return F.grid_sample(films, grid, padding_mode="zeros", align_corners=False)

    def _soften(self, films: Tensor, draws: Draws) -> Tensor:
        """Blur some films: sources differ in sharpness."""
        amount = draws.uniform()
        chosen = draws.chance(self.blur)
        sharp = films[chosen]
        soft = F.avg_pool2d(F.pad(sharp, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return films.index_put((chosen,), torch.lerp(sharp, soft, _per_film(amount[chosen], films)))

    def _change_intensity(self, films: Tensor, draws: Draws) -> Tensor:
        gamma = torch.exp(draws.spread(self.gamma))
        contrast = 1 + draws.spread(self.contrast)
        brightness = draws.spread(self.brightness)
        films = films.clamp_min(1e-4) ** _per_film(gamma, films)
        films = (films - 0.5) * _per_film(contrast, films) + 0.5 + _per_film(brightness, films)
        amount = draws.uniform() * self.noise
        return (films + draws.grain(films) * _per_film(amount, films)).clamp(0, 1)

    def _mask(self, films: Tensor, draws: Draws) -> Tensor:
        """Blacken corners and borders, where letters, arrows and collimator edges stand."""
        side = films.shape[-1]
        position = torch.arange(side)
        widths = draws.uniform(2) * 0.06 * side
        widths *= draws.chance(self.border_mask)[:, None]
        inside = (position >= widths[..., None]) & (position < side - widths[..., None])
        keep = inside[:, 0, :, None] & inside[:, 1, None, :]  # (B, S, S)
        for vertical in (position, side - 1 - position):
            for horizontal in (position, side - 1 - position):
                extent = draws.uniform(2) * 0.22 * side
                extent *= draws.chance(self.corner_mask)[:, None]
                corner = (vertical < extent[:, :1])[:, :, None]
                corner = corner & (horizontal < extent[:, 1:])[:, None, :]
                keep &= ~corner
        return films * keep[:, None].to(films)


def _per_film(values: Tensor, films: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1) on the films' device."""
    return values.to(films)[:, None, None, None]
