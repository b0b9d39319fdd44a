"""Look-up tables over large images, band by band."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ml.imaging.types import Pixels


def look_up(table: Pixels, index: Pixels) -> Pixels:
    """Apply a grey level table to an image, (H, W) -> (H, W).

    Args:
        table: one output level per possible input level.
        index: (H, W) unsigned input levels.
    """
    result = np.empty(index.shape, table.dtype)
    # Numpy widens an index to 8 bytes a pixel: band by band that stays small and in the cache.
    for rows in _bands(index):
        result[rows] = table[index[rows]]
    return result


def levels_in(index: Pixels) -> NDArray[np.bool_]:
    """Which levels occur in an unsigned image: (H, W) -> (256,) or (65536,)."""
    present = np.zeros(np.iinfo(index.dtype).max + 1, np.bool_)
    for rows in _bands(index):
        present[index[rows]] = True
    return present


def _bands(image: Pixels) -> Iterator[slice]:
    height, width = image.shape
    step = max(1, 2**20 // width)
    return (slice(top, top + step) for top in range(0, height, step))
