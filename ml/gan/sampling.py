"""From seeds to films: one seed per film, whatever batch it is made in."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def latents_of(seeds: Sequence[int], length: int, truncation: float = 1.0) -> Tensor:
    """Latent vectors, each drawn from its own seed alone.

    Args:
        seeds: 0 to 2**64 - 1.
        length: of a vector.
        truncation: scales the vectors; below 1 films become more usual and less varied.

    Returns:
        (N, length) float32, on the CPU.
    """
    rows = [
        torch.randn(length, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds
    ]
    return torch.stack(rows) * truncation if rows else torch.empty(0, length)


def interpolated(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Latents from one to another along the sphere, both ends included: (Z,), (Z,) -> (steps, Z).

    A straight line would pass near the origin, where no latent of the training lay (White,
    "Sampling Generative Networks", 2016).
    """
    cosine = torch.dot(start, end) / (start.norm() * end.norm()).clamp(min=1e-12)
    angle = torch.arccos(cosine.clamp(-1, 1))
    place = torch.linspace(0, 1, steps)[:, None]
    if angle.sin().abs() < 1e-4:
        return torch.lerp(start[None], end[None], place)
    weights = torch.sin((1 - place) * angle), torch.sin(place * angle)
    return (weights[0] * start + weights[1] * end) / torch.sin(angle)


def sample_films(
    generator: nn.Module,
    seeds: Sequence[int],
    classes: Sequence[int] | int,
    *,
    length: int,
    truncation: float = 1.0,
    batch_size: int = 32,
) -> NDArray[np.uint8]:
    """Films of seeds, in evaluation mode.

    Args:
        generator: as in `ml.gan.networks`.
        seeds: one per film.
        classes: class number of each film, or of all.
        length: of the generator's latents.
        truncation: as in `latents_of`.
        batch_size: films at a time; a film is the same in whatever batch of that size it comes,
            and that size changes no more than the rounding of a grey level.

    Returns:
        (N, S, S) grey levels.
    """
    wanted = [classes] * len(seeds) if isinstance(classes, int) else list(classes)
    latents = latents_of(seeds, length, truncation)
    return films_of_latents(generator, latents, wanted, batch_size=batch_size)


@torch.no_grad()
def films_of_latents(
    generator: nn.Module, latents: Tensor, classes: Sequence[int], *, batch_size: int = 32
) -> NDArray[np.uint8]:
    """Films of latents (N, Z) and class numbers, in evaluation mode: (N, S, S) grey levels.

    The last batch is filled up, since a convolution of fewer films may round otherwise.
    """
    device = next(generator.parameters()).device
    was_training = generator.training
    generator.eval()
    count = len(latents)
    numbers = torch.tensor(list(classes), dtype=torch.int64)
    missing = -count % batch_size
    latents = torch.cat([latents, latents[-1:].expand(missing, -1)])
    numbers = torch.cat([numbers, numbers[-1:].expand(missing)])
    batches = zip(torch.split(latents, batch_size), torch.split(numbers, batch_size), strict=True)
    parts = [to_grey(generator(z.to(device), k.to(device))) for z, k in batches]
    generator.train(was_training)
    return np.concatenate(parts)[:count]


def sample_sheet(
    generator: nn.Module, classes: int, *, length: int, side: int = 8
) -> NDArray[np.uint8]:
    """`side` squared films of seeds from 0, in rows; several classes come in turn: (H, W)."""
    numbers = [seed % classes for seed in range(side**2)]
    return grid_of(sample_films(generator, range(side**2), numbers, length=length), side)


def to_grey(films: Tensor) -> NDArray[np.uint8]:
    """(B, 1, S, S) in [-1, 1] -> (B, S, S) grey levels."""
    grey = ((films[:, 0].float() + 1) * 127.5).round().clamp(0, 255)
    levels: NDArray[np.uint8] = grey.to(torch.uint8).cpu().numpy()
    return levels


def grid_of(films: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Lay films (N, S, S) in rows of `columns`; places without a film stay black: (H, W)."""
    count, side = len(films), films.shape[1]
    rows = -(-count // columns)
    places = np.zeros((rows * columns, side, side), dtype=np.uint8)
    places[:count] = films
    sheet = places.reshape(rows, columns, side, side).swapaxes(1, 2)
    return sheet.reshape(rows * side, columns * side)
