"""Random changes of what hospitals differ in without a difference in the lungs.

Tone curve, sharpness, resolution and local texture follow from the scanner, its processing and the
archive's compression. A classifier that sees every image under many of them can rely on none.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ml.classifier.draws import Draws

# Quantiles are estimated from every so-manieth pixel.
_STRIDE = 37
_LEVELS = 32
_SCALES = (3, 5, 9)  # sides of the blurs that sharpening subtracts, in pixels


@dataclass(frozen=True, slots=True)
class Harmonisation:
    """Shares of the images that each change is made to, and its reach."""

    equalised: float = 0.6
    sharpened: float = 0.6
    least_sharpening: float = -1.0  # blurs
    most_sharpening: float = 2.0
    coarsened: float = 0.3
    least_side: float = 0.4  # of a coarsened image, as a share of its side
    filtered: float = 0.33

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Change every image of the batch separately.

        Args:
            images: (B, 1, S, S) float in [0, 1].
            draws: for these images.

        Returns:
            (B, 1, S, S) float in [0, 1].
        """
        images = self._equalise(images, draws)
        images = self._sharpen(images, draws)
        images = self._coarsen(images, draws)
        return self._filter(images, draws)

    def _equalise(self, images: Tensor, draws: Draws) -> Tensor:
        """Move grey levels part of the way to a flat histogram: another tone curve."""
        amount = draws.uniform() * draws.chance(self.equalised)
        if not len(images):
            return images
        flat = images.flatten(1)
        levels = torch.linspace(0, 1, _LEVELS + 1, device=images.device)
        edges = torch.quantile(flat[:, ::_STRIDE], levels, dim=1).T.contiguous()
        above = torch.searchsorted(edges, flat).clamp(1, _LEVELS)
        low, high = edges.gather(1, above - 1), edges.gather(1, above)
        within = ((flat - low) / (high - low).clamp_min(1e-4)).clamp(0, 1)
        equal = (above - 1 + within) / _LEVELS
        return torch.lerp(flat, equal, amount.to(images)[:, None]).view_as(images)

    def _sharpen(self, images: Tensor, draws: Draws) -> Tensor:
        """Add or take away detail of one of several scales (unsharp masking)."""
        span = self.most_sharpening - self.least_sharpening
        amount = self.least_sharpening + draws.uniform() * span
        amount = amount * draws.chance(self.sharpened)
        scale = (draws.uniform() * len(_SCALES)).long()
        if not len(images):
            return images
        detail = torch.stack([images - _blurred(images, side) for side in _SCALES])
        chosen = detail[scale.to(images.device), torch.arange(len(images), device=images.device)]
        return (images + chosen * _per_image(amount, images)).clamp(0, 1)

    def _coarsen(self, images: Tensor, draws: Draws) -> Tensor:
        """Shrink some images and enlarge them again."""
        sides = self.least_side + draws.uniform() * (1 - self.least_side)
        chosen = draws.chance(self.coarsened).nonzero().flatten().tolist()
        if not chosen:
            return images
        side = images.shape[-1]
        coarse = []
        for place in chosen:
            small = max(8, round(side * float(sides[place])))
            shrunk = F.interpolate(
                images[place : place + 1], (small, small), mode="bilinear", antialias=True
            )
            coarse.append(F.interpolate(shrunk, (side, side), mode="bilinear"))
        return images.index_copy(0, torch.tensor(chosen, device=images.device), torch.cat(coarse))

    def _filter(self, images: Tensor, draws: Draws) -> Tensor:
        """Put some images through a random small filter, and stretch them to the full range.

        Xu et al., "Robust and Generalizable Visual Representation Learning via Random
        Convolutions", 2021; here the filter stays near the identity.
        """
        kernels = torch.erfinv(draws.spread(0.999, 9)) * 2**0.5 / 3
        kernels[:, 4] += 1
        chosen = draws.chance(self.filtered).to(images.device)
        if not chosen.any():
            return images
        padded = F.pad(images[chosen], (1, 1, 1, 1), mode="replicate")
        weights = kernels.to(images)[chosen].view(-1, 1, 3, 3)
        found = F.conv2d(padded.transpose(0, 1), weights, groups=len(weights)).transpose(0, 1)
        ends = torch.tensor([0.01, 0.99], device=images.device)
        low, high = torch.quantile(found.flatten(1)[:, ::_STRIDE], ends, dim=1)
        span = (high - low).clamp_min(1e-3)
        stretched = (found - _per_image(low, images)) / _per_image(span, images)
        return images.index_put((chosen,), stretched.clamp(0, 1))


def _blurred(images: Tensor, side: int) -> Tensor:
    reach = side // 2
    return F.avg_pool2d(F.pad(images, (reach,) * 4, mode="replicate"), side, stride=1)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1) on the images' device."""
    return values.to(images)[:, None, None, None]
