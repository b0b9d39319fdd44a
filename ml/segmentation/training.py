"""Training the lung segmentation network: a fixed number of epochs, nothing chosen on the way."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ml.options.lungs import LungOptions
from ml.segmentation.network import LungNetwork
from ml.training.epochs import Epochs, OnEpoch

# The encoder starts from ImageNet, so it moves less than the decoder.
ENCODER_SHARE_OF_RATE = 1 / 6


def train_lungs(
    images: NDArray[np.uint8],
    masks: NDArray[np.float32],
    options: LungOptions,
    *,
    on_epoch: OnEpoch | None = None,
) -> LungNetwork:
    """Train on the CPU; equal arguments give equal weights on one machine.

    The loss is the cross-entropy of the pixels plus one minus the soft Dice (Milletari et al.,
    "V-Net", 2016). The weights are those after the last epoch, so no image but the given ones has
    a say.

    Args:
        images: (N, S, S) grey levels.
        masks: (N, S, S) share of lung in each pixel, 0 to 1.
        options: all that decides the result.
        on_epoch: called with the number of each finished epoch and the loss of its last batch.

    Returns:
        The network in evaluation mode.
    """
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    network = LungNetwork().train()
    rates = [options.learning_rate, options.learning_rate * ENCODER_SHARE_OF_RATE]
    optimizer = torch.optim.AdamW(
        [
            {"params": network.decoder_parameters(), "lr": rates[0]},
            {"params": network.encoder_parameters(), "lr": rates[1]},
        ],
        weight_decay=options.weight_decay,
    )
    unit, truth = torch.from_numpy(images)[:, None].float() / 255, torch.from_numpy(masks)[:, None]

    def loss_of(batch: NDArray[np.int64]) -> Tensor:
        changed, wanted = augment(unit[batch], truth[batch], random)
        return segmentation_loss(network(changed * 255), wanted)

    Epochs(options.epochs, len(images), options.batch_size, random).train(
        optimizer, rates, loss_of, on_epoch
    )
    return network.eval()


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy plus one minus soft Dice: (B, 1, s, s) logits, (B, 1, S, S) masks -> ()."""
    masks = F.interpolate(masks, size=logits.shape[2:], mode="area")
    probability = torch.sigmoid(logits)
    overlap = (probability * masks).sum((1, 2, 3))
    # The ones keep the quotient defined where there is no lung.
    area = probability.sum((1, 2, 3)) + masks.sum((1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (area + 1)
    return F.binary_cross_entropy_with_logits(logits, masks) + dice.mean()


def augment(images: Tensor, masks: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Change position and look, differently for each image; masks follow the position.

    Args:
        images: (B, 1, S, S) in [0, 1].
        masks: (B, 1, S, S) in [0, 1].
        random: draws the changes; the noise is torch's.
    """
    grid = _grid(images, random)
    moved, masks = (
        F.grid_sample(values, grid, padding_mode="zeros", align_corners=False)
        for values in (images, masks)
    )
    return _change_look(moved, random), masks


def _grid(images: Tensor, random: np.random.Generator) -> Tensor:
    """Rotation up to 12 degrees, zoom and stretch by a third, mirror, shift: (B, S, S, 2)."""
    count = len(images)
    angle = _uniform(random, count, -12, 12) * math.pi / 180
    zoom_x, zoom_y = (torch.exp(_uniform(random, count, -0.35, 0.3)) for _ in range(2))
    mirror = torch.where(_uniform(random, count, 0, 1) < 0.5, -1.0, 1.0)
    shift_x, shift_y = (_uniform(random, count, -0.15, 0.15) for _ in range(2))
    cosine, sine = torch.cos(angle), torch.sin(angle)
    rows = [
        torch.stack([mirror * cosine * zoom_x, -sine * zoom_y, shift_x], -1),
        torch.stack([mirror * sine * zoom_x, cosine * zoom_y, shift_y], -1),
    ]
    return F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)


def _change_look(images: Tensor, random: np.random.Generator) -> Tensor:
    """Sharpness, gamma, contrast, brightness, a shade across the image, and noise."""

    def draw(low: float, high: float) -> Tensor:
        return _uniform(random, len(images), low, high)[:, None, None, None]

    soft = F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    changed = images + draw(-1, 1.5) * (images - soft)
    changed = changed.clamp(1e-4, 1) ** torch.exp(draw(-0.6, 0.6))
    changed = (changed - 0.5) * (1 + draw(-0.4, 0.3)) + 0.5 + draw(-0.15, 0.15)
    # Exposure differs from side to side.
    ramp = torch.linspace(-1, 1, images.shape[-1])
    changed = changed + draw(-0.15, 0.15) * ramp[None, None, None]
    changed = changed + draw(-0.15, 0.15) * ramp[None, None, :, None]
    changed = changed + torch.randn_like(changed) * draw(0, 0.04)
    return changed.clamp(0, 1)


def _uniform(random: np.random.Generator, count: int, low: float, high: float) -> Tensor:
    return torch.from_numpy(random.uniform(low, high, count)).float()
