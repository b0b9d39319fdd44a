"""Latents from seeds, with NumPy alone, so that a seed gives the same latent everywhere.

Each seed starts its own Mersenne Twister, whose uniform numbers become normal ones by the
Box-Muller transform, in blocks of 16. That is the order of torch's generator on a CPU, so seeds
keep the images they had when torch drew them; torch's last digits depend on the processor, these do
not.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.errors import XrayError

Latents = NDArray[np.float32]  # (N, length)
Doubles = NDArray[np.float64]
# A Mersenne Twister takes a seed of 32 bits: a larger seed would repeat another one's image.
SEEDS = 2**32
# Shorter vectors are drawn pair by pair, from numbers of 53 bits instead of 24.
_BLOCK = 16


def latents_of(seeds: Sequence[int], length: int, truncation: float = 1.0) -> Latents:
    """Latent vectors, each drawn from its own seed alone.

    Args:
        seeds: 0 to 2**32 - 1.
        length: of a vector.
        truncation: scales the vectors; below 1 images are more typical and less diverse.

    Returns:
        (N, length).

    Raises:
        XrayError: a seed is out of its range.
    """
    for seed in seeds:
        if not 0 <= seed < SEEDS:
            raise XrayError(f"Seed {seed} is out of range. Give a seed from 0 to {SEEDS - 1}.")
    draw = _draw_short if length < _BLOCK else _draw_blocks
    twister = np.random.RandomState(0)
    latents = np.empty((len(seeds), length), np.float32)
    for row, seed in zip(latents, seeds, strict=True):
        # Seeding again is faster than creating another one.
        twister.seed(seed)
        row[:] = draw(twister, length)
    return latents * np.float32(truncation)


def interpolate_latents(ends: Latents, steps: int) -> Latents:
    """Latents from one to another along the sphere, both ends included: (2, Z) -> (steps, Z).

    A straight line would pass near the origin, where training has hardly any latents (White,
    "Sampling Generative Networks", 2016).
    """
    first, last = ends.astype(np.float64)
    lengths = max(float(np.linalg.norm(first) * np.linalg.norm(last)), 1e-12)
    angle = math.acos(min(max(float(first @ last) / lengths, -1.0), 1.0))
    position = np.linspace(0, 1, steps)[:, None]
    if math.sin(angle) < 1e-4:
        path = (1 - position) * first + position * last
    else:
        path = np.sin((1 - position) * angle) * first + np.sin(position * angle) * last
        path /= math.sin(angle)
    # Rounding must not change the images of the two ends.
    path[0], path[-1] = first, last
    latents: Latents = path.astype(np.float32)
    return latents


def _draw_blocks(twister: np.random.RandomState, length: int) -> Doubles:
    """Normal numbers from uniform ones of 24 bits, 16 at a time: (length,)."""
    rest = length % _BLOCK
    words = _words(twister, length + (_BLOCK if rest else 0))
    uniform = (words & 0xFFFFFF).astype(np.float64) / 2**24
    normal = np.empty(length)
    normal[: length - rest] = _normal_blocks(uniform[: length - rest])
    if rest:
        # The last block overlaps the one before and has separate numbers.
        normal[-_BLOCK:] = _normal_blocks(uniform[-_BLOCK:])
    return normal


def _normal_blocks(uniform: Doubles) -> Doubles:
    """In each block of 16, eight radii and then eight angles: (n,) -> (n,)."""
    blocks = uniform.reshape(-1, 2, _BLOCK // 2)
    radius, angle = np.sqrt(-2 * np.log(1 - blocks[:, 0])), 2 * np.pi * blocks[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


def _draw_short(twister: np.random.RandomState, length: int) -> Doubles:
    """Normal numbers from uniform ones of 53 bits, an angle and a radius for each pair."""
    words = _words(twister, 4 * -(-length // 2)).astype(np.uint64)
    high, low = words[0::2], words[1::2]
    uniform = ((high << np.uint64(32) | low) & np.uint64(2**53 - 1)).astype(np.float64) / 2**53
    angle, radius = 2 * np.pi * uniform[0::2], np.sqrt(-2 * np.log1p(-uniform[1::2]))
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.reshape(-1)[:length]


def _words(twister: np.random.RandomState, count: int) -> NDArray[np.uint32]:
    """The next numbers of the Mersenne Twister, of 32 bits each, as they come."""
    return twister.randint(0, 2**32, count, dtype=np.uint32)
