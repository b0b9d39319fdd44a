"""The pictures of an image for a screen: the whole one and the thumbnail, without metadata."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.imaging.decode import read_image
from ml.imaging.grey_levels import look_up
from ml.imaging.png import grey_png
from ml.imaging.strip_metadata import strip_jpeg, strip_png
from ml.imaging.types import THUMBNAIL_SIDE, Pixels, Radiograph


def display_image(image: Radiograph, content: bytes) -> tuple[bytes, str]:
    """Make the picture that is stored and shown, free of the source's metadata.

    An upright 8-bit JPEG or PNG is stripped to its pixel data, without re-encoding. Anything
    else becomes an 8-bit greyscale PNG.

    Args:
        image: what `read_image` gave for `content`.
        content: the whole file.

    Returns:
        The picture's bytes and its media type, "image/jpeg" or "image/png".
    """
    if not image.turned and image.format == "JPEG":
        stripped = strip_jpeg(content)
        if stripped is not None:
            return stripped, "image/jpeg"
    if not image.turned and image.format == "PNG":
        stripped = strip_png(content)
        if stripped is not None:
            return stripped, "image/png"
    if image.pixels.shape != (image.height, image.width):
        image = read_image(content)
    return grey_png(_eight_bits(image.pixels)), "image/png"


def thumbnail_image(radiograph: Radiograph) -> bytes:
    """Make the small picture for lists: a greyscale JPEG of at most `THUMBNAIL_SIDE` pixels."""
    # Every few rows and columns first: the smoothing that follows needs only twice the size.
    step = max(1, min(radiograph.pixels.shape) // (2 * THUMBNAIL_SIDE))
    image = Image.fromarray(_eight_bits(radiograph.pixels[::step, ::step]))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    picture = io.BytesIO()
    image.save(picture, "JPEG", quality=85)
    return picture.getvalue()


def _eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Render an image for a screen: its grey levels, but for the outermost 0.1 %, to 0..255."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    step = max(1, math.isqrt(pixels.size // 2**20))
    low, high = np.percentile(pixels[::step, ::step], (0.1, 99.9))
    if low == high:
        low, high = float(pixels.min()), float(pixels.max())
    stretched = (np.arange(2**16) - low) * (255.0 / (high - low))
    table = np.rint(np.clip(stretched, 0.0, 255.0)).astype(np.uint8)
    return look_up(table, pixels).astype(np.uint8, copy=False)
