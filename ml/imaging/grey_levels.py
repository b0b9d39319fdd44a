"""Look-up tables over large images, band by band, and the levels that an image has."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ml.imaging.types import Pixels

# Levels of an 8-bit picture, and how far from even spacing rounding to 10 bits or more puts them.
_LEVELS, _UNEVEN = 256, 0.3
# Fewer levels would lie near some even spacing by chance.
_FEWEST_LEVELS = 32
_ROUNDING = 1e-9  # of this program


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


def even_levels(pixels: Pixels) -> Pixels:
    """Undo the rounding of an 8-bit picture that was stored with more bits, (H, W) -> (H, W).

    Captures and conversions put 8-bit pictures into files of 10 to 16 bits, where 256 levels lie
    nearly but not quite evenly. Spaced evenly again, such a file gives the same model input as the
    picture itself. Levels keep their order and distances; the lowest becomes 0. An image with more
    levels is returned as it is.
    """
    # Most deep images have more levels in any few of their rows.
    if pixels.dtype == np.uint8 or np.count_nonzero(levels_in(pixels[::16])) > _LEVELS:
        return pixels
    levels = np.flatnonzero(levels_in(pixels))
    places = _even_places(levels)
    if places is None:
        return pixels
    table = np.zeros(np.iinfo(pixels.dtype).max + 1, np.uint16)
    table[levels] = places * _LEVELS
    return look_up(table, pixels)


def _even_places(levels: NDArray[np.intp]) -> NDArray[np.intp] | None:
    """The place of each level, (L,), among at most 256 evenly spaced ones that lie nearly there.

    None where they are even already, or there are no such places.
    """
    if not _FEWEST_LEVELS <= len(levels) <= _LEVELS:
        return None
    shares = (levels - levels[0]) / (levels[-1] - levels[0])
    for last in range(len(levels) - 1, _LEVELS):
        places = np.rint(shares * last)
        uneven = np.abs(shares * last - places).max()
        if uneven <= _UNEVEN:
            return places.astype(np.intp) if uneven > _ROUNDING else None
    return None


def _bands(image: Pixels) -> Iterator[slice]:
    height, width = image.shape
    step = max(1, 2**20 // width)
    return (slice(top, top + step) for top in range(0, height, step))
