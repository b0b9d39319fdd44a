"""Differentiable augmentation: the critic never sees an image as it is.

With few images a critic memorises them. Zhao et al. ("Differentiable Augmentation for
Data-Efficient GAN Training", 2020) change real and fake images alike, and let the generator's
gradient pass through the change, so that the changes do not end up in the samples.

Here: shift and zoom, brightness, contrast. No mirror image, although the report flips images: a
heart on the right is a finding. Interpolates lie between changed images, so they are changed too.
"""

import torch
from torch import Tensor

SHIFT = 0.125  # of the side, either way
ZOOM = 0.1  # either way
BRIGHTNESS = 0.2  # of the half range, either way
CONTRAST = 0.3  # either way
# Uniform numbers that one image's change needs.
DRAWS = 6


def diff_augment(images: Tensor, draws: Tensor, share: float) -> Tensor:
    """Change a share of the images, differentiably.

    Args:
        images: (B, 1, S, S) in [-1, 1].
        draws: (B, DRAWS) uniform in [0, 1]; equal draws change alike.
        share: chance that an image is changed; 0 leaves all as they are.

    Returns:
        (B, 1, S, S). What comes from beyond the edge is black, as outside of the body.
    """
    if share == 0:
        return images
    changed = (draws[:, 0] < share).to(images.dtype)
    reach = (draws[:, 1:].to(images.dtype) * 2 - 1) * changed[:, None]  # (B, 5) in [-1, 1]
    zoom = 1 + ZOOM * reach[:, 2]
    rows = _resampling(reach[:, 0] * SHIFT, zoom, images.shape[2])
    columns = _resampling(reach[:, 1] * SHIFT, zoom, images.shape[3])
    # Two products of small matrices: much faster than a general warp, forward and backward.
    moved = rows[:, None] @ (images + 1) @ columns[:, None].transpose(2, 3) - 1
    contrast = (1 + CONTRAST * reach[:, 3])[:, None, None, None]
    brightness = (BRIGHTNESS * reach[:, 4])[:, None, None, None]
    return moved * contrast + brightness


def _resampling(shift: Tensor, zoom: Tensor, side: int) -> Tensor:
    """(B,), (B,) -> (B, side, side): linear interpolation along one axis as a matrix."""
    place = torch.arange(side, device=shift.device, dtype=shift.dtype)
    middle = (side - 1) / 2
    source = (place - middle)[None] / zoom[:, None] + middle - shift[:, None] * side  # (B, side)
    return (1 - (source[:, :, None] - place).abs()).clamp(min=0)
