"""Colour pictures of grey images: their grey, or a refusal."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.imaging.types import GreyImage, UnreadableImage
from ml.texts import msg

# An image is grey. A tint of the image base and a small coloured mark are let through; a picture
# with colour on more than this share of its area is something else.
COLOUR_SPREAD = 40
COLOUR_SHARE = 0.05


def grey_of_colour(picture: Image.Image | NDArray[np.uint8]) -> GreyImage:
    """An RGB picture, (H, W, 3), -> (H, W).

    Raises:
        UnreadableImage: it has real colours.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    # Averaged to about 256 pixels: cheap for any size, and the colour noise of JPEG goes away.
    small = image.reduce(max(1, min(image.size) // 256))
    spread = np.ptp(np.asarray(small), axis=2)
    if np.mean(spread > COLOUR_SPREAD) > COLOUR_SHARE:
        raise UnreadableImage(
            msg("The picture is in colour; a chest X-ray is grey. Export the image itself."),
            "not-a-radiograph",
        )
    return np.asarray(image.convert("L"))
