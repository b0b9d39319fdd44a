"""The decoded image, and the error for files that cannot be used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml.errors import XrayError
from ml.imaging.image_warnings import ImageWarning
from ml.texts import msg

MAX_PIXELS = 50_000_000
MIN_SIDE = 64
# A generator's images may be smaller than any that came out of an X-ray machine.
MIN_SYNTHETIC_SIDE = 16
THUMBNAIL_SIDE = 256
Format = Literal["JPEG", "PNG", "TIFF", "WebP", "DICOM", "JPEG 2000", "BMP", "HEIC"]
Pixels = NDArray[np.uint8 | np.uint16]
GreyImage = NDArray[np.uint8]  # (H, W), higher is brighter
GreyImages = NDArray[np.uint8]  # (N, H, W)
# Codes of the API. "not-an-image": the file holds no picture. "not-a-radiograph": it holds one, but
# not a grey X-ray image of the chest's modalities.
Refusal = Literal[
    "empty",
    "not-an-image",
    "damaged",
    "too-large",
    "too-small",
    "too-slow",
    "multi-frame",
    "unsupported-colour",
    "unsupported-encoding",
    "not-a-radiograph",
    "not-a-chest",
    "not-frontal",
    "blank",
]


class UnreadableImage(XrayError, ValueError):
    """A file that is no usable image; the message says what was wrong and what to do.

    Attributes:
        message: the text; pages translate one of `ml.texts`, which `str` of an error forgets.
        code: a stable word for programs, one of `Refusal`.
    """

    def __init__(self, message: str, code: Refusal = "damaged") -> None:
        super().__init__(message)
        self.message = message
        self.code: Refusal = code


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """An image as it is looked at: upright, grey, bone bright.

    Attributes:
        pixels: (H, W), uint8 or uint16, higher is brighter; smaller than `height` x `width`
            where `read_image` was allowed to reduce it.
        width: columns of the whole image, after an orientation flag was applied.
        height: rows of the whole image, after an orientation flag was applied.
        format: what the file was.
        bits: grey depth of the stored pixels, 1 to 16.
        metadata: a short allow-list of technical values; nothing that names a person or place.
        turned: the pixels were turned or inverted, so the stored picture cannot be shown as it is.
        warnings: what has to be said of the image.
    """

    pixels: Pixels
    width: int
    height: int
    format: Format
    bits: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    turned: bool = False
    warnings: tuple[ImageWarning, ...] = ()


def check_size(width: int, height: int, least_side: int = MIN_SIDE) -> None:
    """Refuse a size that is no image's, before a pixel of it is decoded.

    Raises:
        UnreadableImage: over `MAX_PIXELS`, or a short side under `least_side`.
    """
    if width * height > MAX_PIXELS:
        raise UnreadableImage(
            msg(
                "The picture has %(width)s x %(height)s pixels, more than %(max_pixels)s "
                "million. Export the image at its normal size.",
                width=str(width),
                height=str(height),
                max_pixels=MAX_PIXELS // 1000000,
            ),
            "too-large",
        )
    if min(width, height) < least_side:
        raise UnreadableImage(
            msg(
                "The picture has only %(width)s x %(height)s pixels; an image has at least "
                "%(least_side)s on its short side. Export the image itself, not its "
                "thumbnail.",
                width=str(width),
                height=str(height),
                least_side=least_side,
            ),
            "too-small",
        )
