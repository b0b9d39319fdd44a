"""Pictures of synthetic images for the pages: each has the word SYNTHETIC drawn into it.

The file of a data set itself has the word in its metadata only, as a classifier learns from it.
"""

import io
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from fastapi import Response
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from app.core.errors import NotFound
from app.core.safe_files import file_in, path_in
from ml.files import write_whole
from ml.gan.synthesis.folder import thumbnail_name
from ml.gan.synthesis.watermark import marked, thumbnail_of
from ml.imaging.types import GreyImage, GreyImages
from ml.texts import msg

# An image never changes. A picture opened by itself runs nothing.
_LASTING = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "sandbox",
}

SAMPLE_GRID = "samples.png"

SHOWN_SIDE, FRAME_SIDE = 512, 256
# Letters of this many pixels can be read in a picture of `SHOWN_SIDE`, and hide little of it.
_SHOWN_LETTERS, _FRAME_LETTERS = 4, 3
logger = logging.getLogger(__name__)


def read_stored(path: Path) -> tuple[GreyImage, dict[str, str]]:
    """An image of a synthetic data set, and the words about its origin in its file.

    Raises:
        NotFound: the file is gone.
    """
    try:
        with Image.open(path) as image:
            text = dict(image.text) if isinstance(image, PngImageFile) else {}
            return np.asarray(image.convert("L")), text
    except FileNotFoundError as problem:
        raise NotFound(msg("The image is no longer stored.")) from problem


def shown_picture(image: GreyImage, text: Mapping[str, str]) -> bytes:
    """An image as its own page shows it: large, marked, a PNG that keeps the words of its
    origin.
    """
    return _png(marked(enlarged(image, SHOWN_SIDE), _SHOWN_LETTERS), text)


def strip_picture(images: GreyImages, text: Mapping[str, str]) -> bytes:
    """Images side by side, each marked: a PNG of frames `FRAME_SIDE` wide and high."""
    frames = [marked(enlarged(image, FRAME_SIDE, exactly=True), _FRAME_LETTERS) for image in images]
    return _png(np.concatenate(frames, axis=1), text)


def sheet_picture(sheet: GreyImage, text: Mapping[str, str]) -> bytes:
    """A sheet of many images, marked as a whole."""
    return _png(marked(sheet, _SHOWN_LETTERS), text)


def thumbnail(folder: Path, image: str) -> bytes:
    """An image of a synthetic data set, small and marked; made where it is missing, and kept.

    Raises:
        NotFound: the image is gone, or does not lie in the folder.
    """
    path = path_in(folder, thumbnail_name(image))
    with suppress(FileNotFoundError):
        return path.read_bytes()
    picture = thumbnail_of(read_stored(file_in(folder, image))[0])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, picture)
    except OSError as problem:
        # No room, or a folder that is read only here: the picture is shown anyway.
        logger.warning("the thumbnail %s is not kept: %s", path, problem)
    return picture


def enlarged(image: GreyImage, side: int, *, exactly: bool = False) -> GreyImage:
    """An image with its longer side brought up to `side`, or exactly to it; (H, W) -> (H', W')."""
    height, width = image.shape
    longest = max(height, width)
    if longest == side or (longest > side and not exactly):
        return image
    size = (side, side) if exactly else (width * side // longest, height * side // longest)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _png(image: GreyImage, text: Mapping[str, str]) -> bytes:
    words = PngInfo()
    for key, value in text.items():
        words.add_text(key, value)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", pnginfo=words)
    return stream.getvalue()


def png_response(picture: bytes) -> Response:
    """A PNG that browsers may cache for good."""
    return Response(picture, media_type="image/png", headers=_LASTING)
