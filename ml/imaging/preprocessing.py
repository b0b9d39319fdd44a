"""The one preprocessing of an image, the same for training, evaluation and serving.

`standardise` turns an image of any size and depth into the small square the classifier reads.
What remains, scaling to [-1, 1], is part of the network and so of the exported graph: there is
no second place where it could differ.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.imaging.grey_levels import even_levels
from ml.texts import msg

# Burnt-in letters and collimator borders are few pixels: the darkest and brightest percent of
# the image do not take part in the stretch.
LOW_PERCENTILE = 1.0
HIGH_PERCENTILE = 99.0


class BlankImage(ValueError):
    """An image without contrast: every pixel has about the same value."""


def standardise(pixels: NDArray[np.uint8 | np.uint16], size: int) -> NDArray[np.uint8]:
    """Shrink an image to a square and stretch its grey levels to the full range.

    The whole image is kept: it is squeezed to the square, not cropped, so that a heat map of the
    square lies over all of the image. The stretch is by percentiles, which makes the result
    independent of bit depth and of linear display windows. An 8-bit picture in a deeper file gives
    what the picture itself gives (see `even_levels`).

    Args:
        pixels: (H, W), higher is brighter.
        size: side of the square in pixels.

    Returns:
        (size, size) grey levels, 0 to 255.

    Raises:
        BlankImage: the image has no contrast.
    """
    if pixels.ndim != 2:
        raise ValueError(f"expected an image of shape (H, W), got {pixels.shape}")
    square = _shrink(even_levels(pixels), size)
    low, high = np.percentile(square, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if high - low < 1e-6:
        raise BlankImage(
            msg("The image has no contrast: every pixel has about the same value. Export it again.")
        )
    stretched = (square - low) * (255.0 / (high - low))
    grey: NDArray[np.uint8] = np.rint(np.clip(stretched, 0.0, 255.0)).astype(np.uint8)
    return grey


def _shrink(pixels: NDArray[np.uint8 | np.uint16], size: int) -> NDArray[np.float32]:
    """(H, W) -> (size, size) in float32, from 0 to 1."""
    height, width = pixels.shape
    image = Image.fromarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32))
    # A box filter by a whole factor first: much cheaper on large images than one wide kernel. The
    # last box may reach over the edge, so the image ends within it.
    factor = max(1, min(height, width) // (2 * size))
    edges = (0.0, 0.0, width / factor, height / factor)
    small = image.reduce(factor).convert("F")
    resized = small.resize((size, size), Image.Resampling.BILINEAR, box=edges)
    return np.asarray(resized, dtype=np.float32) / np.float32(np.iinfo(pixels.dtype).max)
