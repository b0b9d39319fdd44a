"""From seeds to latents: the noise that an image is made of. NumPy alone, the same everywhere.

A seed starts its own Mersenne Twister, and pairs of its numbers become normal ones by Box and
Muller's formula, in blocks of 16. That is the order in which torch's generator gives them on a
processor, so a seed's image is the one that it always was; torch's last digits depend on the
processor, these do not.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.errors import XrayError

Latents = NDArray[np.float32]  # (N, length)
Doubles = NDArray[np.float64]
# The Mersenne Twister is started with 32 bits: a larger seed would be another name of an image.
SEEDS = 2**32
# Shorter vectors are drawn pair by pair, from numbers of 53 bits instead of 24.
_BLOCK = 16


def latents_of(seeds: Sequence[int], length: int, truncation: float = 1.0) -> Latents:
    """Latent vectors, each drawn from its own seed alone.

    Args:
        seeds: 0 to 2**32 - 1.
        length: of a vector.
        truncation: scales the vectors; below 1 images become more usual and less varied.

    Returns:
        (N, length).

    Raises:
        XrayError: a seed is out of its range.
    """
    for seed in seeds:
        if not 0 <= seed < SEEDS:
            raise XrayError(f"there is no image of seed {seed}: give one of 0 to {SEEDS - 1}")
    draw = _draw_short if length < _BLOCK else _draw_blocks
    twister = np.random.RandomState(0)
    latents = np.empty((len(seeds), length), np.float32)
    for row, seed in zip(latents, seeds, strict=True):
        # Started anew, which is quicker than another one.
        twister.seed(seed)
        row[:] = draw(twister, length)
    return latents * np.float32(truncation)


def way_between(ends: Latents, steps: int) -> Latents:
    """Latents from one to another along the sphere, both ends included: (2, Z) -> (steps, Z).

    A straight line would pass near the origin, where no latent of the training lay (White,
    "Sampling Generative Networks", 2016).
    """
    first, last = ends.astype(np.float64)
    lengths = max(float(np.linalg.norm(first) * np.linalg.norm(last)), 1e-12)
    angle = math.acos(min(max(float(first @ last) / lengths, -1.0), 1.0))
    place = np.linspace(0, 1, steps)[:, None]
    if math.sin(angle) < 1e-4:
        way = (1 - place) * first + place * last
    else:
        way = np.sin((1 - place) * angle) * first + np.sin(place * angle) * last
        way /= math.sin(angle)
    # Rounding must not make them other images than those of the two ends.
    way[0], way[-1] = first, last
    latents: Latents = way.astype(np.float32)
    return latents


def _draw_blocks(twister: np.random.RandomState, length: int) -> Doubles:
    """Normal numbers from uniform ones of 24 bits, 16 at a time: (length,)."""
    rest = length % _BLOCK
    words = _words(twister, length + (_BLOCK if rest else 0))
    uniform = (words & 0xFFFFFF).astype(np.float64) / 2**24
    normal = np.empty(length)
    normal[: length - rest] = _normal_blocks(uniform[: length - rest])
    if rest:
        # The last block overlaps the one before, with new numbers.
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
