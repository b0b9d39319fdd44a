"""Training-time augmentation of whole batches.

Two aims: the report's small geometric changes (rotation, shear, horizontal flip, tilt), which
enlarge a scarce class, and changes that take away shortcuts, since burnt-in letters, borders and
the brightness curve of a hospital's scanner tell the source of a film and with it its label.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


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

    def __call__(self, films: Tensor, generator: torch.Generator) -> Tensor:
        """Change every film of the batch in its own way.

        Args:
            films: (B, 1, S, S) float in [0, 1].
            generator: source of all randomness, on the CPU.

        Returns:
            (B, 1, S, S) float in [0, 1].
        """
        films = self._warp(films, generator)
        films = self._soften(films, generator)
        films = self._change_intensity(films, generator)
        return self._mask(films, generator)

    def _warp(self, films: Tensor, generator: torch.Generator) -> Tensor:
        count = len(films)
        angle = _spread(count, self.rotation, generator) * math.pi / 180
        shear = torch.tan(_spread(count, self.shear, generator) * math.pi / 180)
        zoom = 1 + _spread(count, self.scale, generator)
        mirror = torch.where(_chance(count, self.flip, generator), -1.0, 1.0)
        shift = torch.stack([_spread(count, 2 * self.shift, generator) for _ in range(2)], dim=-1)
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

    def _soften(self, films: Tensor, generator: torch.Generator) -> Tensor:
        """Blur some films: sources differ in sharpness."""
        blurred = F.avg_pool2d(F.pad(films, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        amount = torch.rand(len(films), generator=generator)
        chosen = _chance(len(films), self.blur, generator)
        weight = _per_film(torch.where(chosen, amount, torch.zeros(())), films)
        return torch.lerp(films, blurred, weight)

    def _change_intensity(self, films: Tensor, generator: torch.Generator) -> Tensor:
        count = len(films)
        gamma = torch.exp(_spread(count, self.gamma, generator))
        contrast = 1 + _spread(count, self.contrast, generator)
        brightness = _spread(count, self.brightness, generator)
        films = films.clamp_min(1e-4) ** _per_film(gamma, films)
        films = (films - 0.5) * _per_film(contrast, films) + 0.5 + _per_film(brightness, films)
        grain = torch.randn(films.shape, generator=generator).to(films)
        amount = torch.rand(count, generator=generator) * self.noise
        return (films + grain * _per_film(amount, films)).clamp(0, 1)

    def _mask(self, films: Tensor, generator: torch.Generator) -> Tensor:
        """Blacken corners and borders, where letters, arrows and collimator edges stand."""
        count, side = len(films), films.shape[-1]
        position = torch.arange(side)
        widths = torch.rand(count, 2, generator=generator) * 0.06 * side
        widths *= _chance(count, self.border_mask, generator)[:, None]
        inside = (position >= widths[..., None]) & (position < side - widths[..., None])
        keep = inside[:, 0, :, None] & inside[:, 1, None, :]  # (B, S, S)
        for vertical in (position, side - 1 - position):
            for horizontal in (position, side - 1 - position):
                extent = torch.rand(count, 2, generator=generator) * 0.22 * side
                extent *= _chance(count, self.corner_mask, generator)[:, None]
                corner = (vertical < extent[:, :1])[:, :, None]
                corner = corner & (horizontal < extent[:, 1:])[:, None, :]
                keep &= ~corner
        return films * keep[:, None].to(films)


def _spread(count: int, reach: float, generator: torch.Generator) -> Tensor:
    """(count,) uniform in [-reach, reach]."""
    return (torch.rand(count, generator=generator) * 2 - 1) * reach


def _chance(count: int, share: float, generator: torch.Generator) -> Tensor:
    """(count,) true with the given probability."""
    return torch.rand(count, generator=generator) < share


def _per_film(values: Tensor, films: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1) on the films' device."""
    return values.to(films)[:, None, None, None]
