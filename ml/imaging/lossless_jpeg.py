"""JPEG Lossless (process 14), which libraries decode differently: two have to agree."""

import numpy as np
from imagecodecs import jpegsof3_decode, ljpeg_decode
from libjpeg.utils import decode as libjpeg_decode

from ml.imaging.types import Pixels, UnreadableImage
from ml.texts import msg

_DECODERS = (jpegsof3_decode, ljpeg_decode)


def decode_lossless_jpeg(codestream: bytes, precision: int) -> Pixels:
    """Decode a codestream of one component, (H, W).

    Some encoders let the difference of neighbours wrap around, as the arithmetic of the standard
    (modulo 2 ** 16) allows. libjpeg cuts such values off at black or white, without an error. So
    where its picture reaches black or white, another decoder has to agree with it, or two
    others with each other.

    Args:
        codestream: the whole frame.
        precision: bits of a sample; higher bits are dropped.

    Raises:
        UnreadableImage: the decoders disagree.
    """
    first: Pixels = libjpeg_decode(codestream)
    if first.min() > 0 and first.max() < 2**precision - 1:
        return first
    mask = first.dtype.type(2**precision - 1)
    others = [
        each for decoder in _DECODERS if (each := _try(decoder, codestream, first)) is not None
    ]
    pictures = [first, *(each & mask for each in others)]
    for number, picture in enumerate(pictures):
        if any(np.array_equal(picture, other) for other in pictures[number + 1 :]):
            return picture
    raise UnreadableImage(
        msg(
            "The lossless JPEG of the DICOM file cannot be decoded reliably: decoders "
            "disagree about its pixels. Export it uncompressed or as JPEG 2000."
        ),
        "unsupported-encoding",
    )


def _try(decoder: object, codestream: bytes, like: Pixels) -> Pixels | None:
    """The picture of another decoder, or None where it cannot read this kind."""
    assert callable(decoder)
    try:
        picture: Pixels = decoder(codestream)
    except (ValueError, RuntimeError):  # what imagecodecs raises on what it does not support
        return None
    return picture if picture.shape == like.shape and picture.dtype == like.dtype else None
