"""Training-time augmentation of whole batches.

Two aims: the report's small geometric changes (rotation, shear, horizontal flip, tilt), which
enlarge a scarce class, and changes that take away shortcuts, since burnt-in letters, borders, the
brightness curve of a hospital's scanner and the compression of an archive reveal the source of an
image, and with it its label.

A transform of torchvision v2 draws once per call: a batch would share one rotation. Image by image
v2 costs a CPU about as much as the code here, but starts every operation once for each image, where
a GPU wants it once for a batch. So what differs in an amount alone is batched here, and v2 does
what is done image by image anyway: compression.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import jpeg  # type: ignore[import-untyped]  # no hints

from ml.classifier.draws import Draws
from ml.classifier.harmonisation import Harmonisation


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
    harmonisation: Harmonisation | None = None

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Change every image of the batch separately.

        Args:
            images: (B, 1, S, S) float in [0, 1].
            draws: for these images.

        Returns:
            (B, 1, S, S) float in [0, 1].
        """
        images = self._compress(images, draws)
        images = self._warp(images, draws)
        images = self._soften(images, draws)
        if self.harmonisation:
            images = self.harmonisation(images, draws)
        images = self._change_intensity(images, draws)
        return self._mask(images, draws)

    def _compress(self, images: Tensor, draws: Draws) -> Tensor:
        """Give some images the blocks and ripples of JPEG."""
        span = self.highest_quality - self.lowest_quality
        quality = (self.lowest_quality + draws.uniform() * span).long().tolist()
        chosen = draws.chance(self.compression).nonzero().flatten().tolist()
        if not chosen:
            return images
        grey = (images[chosen, 0] * 255).round().byte().cpu().numpy()
        # As Pillow images: torchvision's own coder of tensors is to be removed.
        pictures = [
            jpeg(Image.fromarray(image), quality[place])
            for image, place in zip(grey, chosen, strict=True)
        ]
        lossy = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
        places = torch.tensor(chosen, device=images.device)
        return images.index_copy(0, places, lossy[:, None].to(images) / 255)

    def _warp(self, images: Tensor, draws: Draws) -> Tensor:
        """Turn, shear, mirror; zooming with a shift crops as well."""
        angle = draws.spread(self.rotation) * math.pi / 180
        shear = torch.tan(draws.spread(self.shear) * math.pi / 180)
        zoom = 1 + draws.spread(self.scale)
        mirror = torch.where(draws.chance(self.flip), -1.0, 1.0)
        shift = draws.spread(2 * self.shift, 2)
        if not len(images):
            return images  # torch makes no grid for none
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = torch.stack(
            [
                torch.stack([mirror * cos, mirror * (shear * cos - sin), shift[:, 0]], dim=-1),
                torch.stack([sin, shear * sin + cos, shift[:, 1]], dim=-1),
            ],
            dim=1,
        )  # (B, 2, 3)
        grid = F.affine_grid(rows.to(images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)

    def _soften(self, images: Tensor, draws: Draws) -> Tensor:
        """Blur some images: sources differ in sharpness."""
        amount = draws.uniform()
        chosen = draws.chance(self.blur)
        sharp = images[chosen]
        soft = F.avg_pool2d(F.pad(sharp, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return images.index_put(
            (chosen,), torch.lerp(sharp, soft, _per_image(amount[chosen], images))
        )

    def _change_intensity(self, images: Tensor, draws: Draws) -> Tensor:
        gamma = torch.exp(draws.spread(self.gamma))
        contrast = 1 + draws.spread(self.contrast)
        brightness = draws.spread(self.brightness)
        images = images.clamp_min(1e-4) ** _per_image(gamma, images)
        images = (
            (images - 0.5) * _per_image(contrast, images) + 0.5 + _per_image(brightness, images)
        )
        amount = draws.uniform() * self.noise
        return (images + draws.grain(images) * _per_image(amount, images)).clamp(0, 1)

    def _mask(self, images: Tensor, draws: Draws) -> Tensor:
        """Blacken corners and borders, where letters, arrows and collimator edges stand."""
        side = images.shape[-1]
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
        return images * keep[:, None].to(images)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1) on the images' device."""
    return values.to(images)[:, None, None, None]
