"""From seeds to images: one seed per image, whatever batch it is made in."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.gan.latents import Latents, latents_of


def sample_images(
    generator: nn.Module,
    seeds: Sequence[int],
    classes: Sequence[int] | int,
    *,
    length: int,
    truncation: float = 1.0,
    batch_size: int = 32,
) -> NDArray[np.uint8]:
    """Images of seeds, in evaluation mode.

    Args:
        generator: as in `ml.gan.networks`.
        seeds: one per image.
        classes: class number of each image, or of all.
        length: of the generator's latents.
        truncation: as in `ml.gan.latents.latents_of`.
        batch_size: images at a time; an image is the same in whatever batch of that size it comes,
            and that size changes no more than the rounding of a grey level.

    Returns:
        (N, S, S) grey levels.
    """
    wanted = [classes] * len(seeds) if isinstance(classes, int) else list(classes)
    latents = latents_of(seeds, length, truncation)
    return images_of_latents(generator, latents, wanted, batch_size=batch_size)


@torch.no_grad()
def images_of_latents(
    generator: nn.Module, latents: Latents, classes: Sequence[int], *, batch_size: int = 32
) -> NDArray[np.uint8]:
    """Images of latents (N, Z) and class numbers, in evaluation mode: (N, S, S) grey levels.

    The last batch is filled up, since a convolution of fewer images may round otherwise.
    """
    device = next(generator.parameters()).device
    was_training = generator.training
    generator.eval()
    count = len(latents)
    vectors, numbers = torch.from_numpy(latents), torch.tensor(list(classes), dtype=torch.int64)
    missing = -count % batch_size
    vectors = torch.cat([vectors, vectors[-1:].expand(missing, -1)])
    numbers = torch.cat([numbers, numbers[-1:].expand(missing)])
    batches = zip(torch.split(vectors, batch_size), torch.split(numbers, batch_size), strict=True)
    parts = [grey_levels(generator(z.to(device), k.to(device))).cpu() for z, k in batches]
    generator.train(was_training)
    levels: NDArray[np.uint8] = torch.cat(parts).numpy()
    return levels[:count]


def sample_sheet(
    generator: nn.Module, classes: int, *, length: int, side: int = 8
) -> NDArray[np.uint8]:
    """`side` squared images of seeds from 0, in rows; several classes come in turn: (H, W)."""
    numbers = [seed % classes for seed in range(side**2)]
    return grid_of(sample_images(generator, range(side**2), numbers, length=length), side)


def grey_levels(images: Tensor) -> Tensor:
    """(B, 1, S, S) in [-1, 1] -> (B, S, S) uint8."""
    return ((images[:, 0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def grid_of(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Lay images (N, S, S) in rows of `columns`; places without an image stay black: (H, W)."""
    count, side = len(images), images.shape[1]
    rows = -(-count // columns)
    places = np.zeros((rows * columns, side, side), dtype=np.uint8)
    places[:count] = images
    sheet = places.reshape(rows, columns, side, side).swapaxes(1, 2)
    return sheet.reshape(rows * side, columns * side)
