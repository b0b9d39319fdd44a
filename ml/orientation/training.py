"""Training the orientation check on upright X-rays that are turned and inverted at random."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ml.imaging.orientation import ROTATIONS
from ml.imaging.types import GreyImage
from ml.options.orientation import OrientationOptions
from ml.orientation.network import OrientationNetwork
from ml.orientation.not_chest import examples
from ml.segmentation.training import augment
from ml.training.epochs import Epochs, OnEpoch

# Pictures of something else for each X-ray of a batch.
NOT_CHEST_SHARE = 0.25
FRAME_SHARE = 0.2


def train_orientation(
    images: NDArray[np.uint8],
    photographs: Sequence[GreyImage],
    options: OrientationOptions,
    *,
    on_epoch: OnEpoch | None = None,
) -> OrientationNetwork:
    """Train on the CPU; equal arguments give equal weights on one machine.

    The weights are those after the last epoch, so no image but the given ones has a say.

    Args:
        images: (N, S, S) upright frontal chest X-rays with bright bones, standardised.
        photographs: pictures of other things; may be empty.
        options: all that decides the result.
        on_epoch: called with the number of each finished epoch and the loss of its last batch.

    Returns:
        The network in evaluation mode.
    """
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    network = OrientationNetwork()
    network(torch.zeros(2, 1, *images.shape[1:], dtype=torch.uint8))  # decides the head's size
    network.train()
    optimizer = torch.optim.AdamW(
        network.parameters(), options.learning_rate, weight_decay=options.weight_decay
    )
    Epochs(options.epochs, len(images), options.batch_size, random).train(
        optimizer,
        options.learning_rate,
        lambda batch: _loss(network, images[batch], photographs, random),
        on_epoch,
    )
    return network.eval()


def _loss(
    network: OrientationNetwork,
    images: NDArray[np.uint8],
    photographs: Sequence[GreyImage],
    random: np.random.Generator,
) -> Tensor:
    """Cross-entropy of rotation and inversion for X-rays, of "is a chest" for all pictures."""
    others = examples(max(1, round(NOT_CHEST_SHARE * len(images))), images, photographs, random)
    chest = torch.arange(len(images) + len(others)) < len(images)
    turns = torch.from_numpy(random.integers(0, ROTATIONS, len(chest)))
    inverted = torch.from_numpy(random.random(len(chest)) < 0.5)
    pictures = disturb(torch.from_numpy(np.concatenate([images, others])), turns, inverted, random)
    logits = network(pictures * 255)
    greys, is_chest = logits[:, ROTATIONS], logits[:, ROTATIONS + 1]
    return (
        F.cross_entropy(logits[chest, :ROTATIONS], turns[chest])
        + F.binary_cross_entropy_with_logits(greys[chest], inverted[chest].float())
        + F.binary_cross_entropy_with_logits(is_chest, chest.float())
    )


def disturb(images: Tensor, turns: Tensor, inverted: Tensor, random: np.random.Generator) -> Tensor:
    """Change position and look of images, then turn and invert them.

    Args:
        images: (B, S, S) uint8.
        turns: (B,) how many quarter turns have to make each upright again, counter-clockwise.
        inverted: (B,) whether to invert it.
        random: draws the changes.

    Returns:
        (B, 1, S, S) in [0, 1].
    """
    unit = images[:, None].float() / 255
    # Some are inverted before they move, so that borders are dark on either side.
    early = inverted & torch.from_numpy(random.random(len(unit)) < 0.5)
    unit = torch.where(early[:, None, None, None], 1 - unit, unit)
    changed, _ = augment(unit, unit, random)
    late = inverted & ~early
    changed = torch.where(late[:, None, None, None], 1 - changed, changed)
    for index in np.flatnonzero(random.random(len(unit)) < FRAME_SHARE):
        _frame(changed[index, 0], random)
    return torch.stack(
        [torch.rot90(image, -int(turn), (1, 2)) for image, turn in zip(changed, turns, strict=True)]
    )


def _frame(image: Tensor, random: np.random.Generator) -> None:
    """Paint a border of one grey on some sides, as scanners and viewers leave it."""
    grey = float(random.choice((0.0, 1.0, random.random())))
    widths = random.integers(0, max(2, len(image) // 6), 4) * (random.random(4) < 0.6)
    top, bottom, left, right = (int(width) for width in widths)
    image[:top] = grey
    image[len(image) - bottom :] = grey
    image[:, :left] = grey
    image[:, image.shape[1] - right :] = grey
