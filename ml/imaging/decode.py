"""The one place where bytes become an image.

`read_image` takes the bytes of a PNG, JPEG, TIFF, WebP or DICOM file and gives a greyscale image,
or refuses with an `UnreadableImage` that says what was wrong and what to do. The format of a
file is recognized by its first bytes, never by its name.

Decoders are large C libraries: a server reads strangers' files in a child process only.
"""

import io
import math
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from ml.imaging.grey_levels import look_up
from ml.imaging.png import grey_png
from ml.imaging.strip_metadata import strip_jpeg, strip_png
from ml.imaging.types import (
    MIN_SIDE,
    THUMBNAIL_SIDE,
    Format,
    Pixels,
    Radiograph,
    Refusal,
    UnreadableImage,
    check_size,
)

# A progressive JPEG has about ten; each is a pass over the whole picture, even an empty one.
_MOST_SCANS = 100
# An image is grey. A tint of the image base and a small coloured mark are let through; a picture
# with colour on more than this share of its area is something else.
COLOUR_SPREAD = 40
COLOUR_SHARE = 0.05
# Named here so that Pillow knows these four formats without importing all of its plugins.
PLUGINS = (JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)


def read_image(
    content: bytes, *, shortest: int | None = None, least_side: int = MIN_SIDE
) -> Radiograph:
    """Decode the bytes of a file into an image.

    Args:
        content: the whole file.
        shortest: where given, a JPEG may come back reduced, its short side at least this many
            pixels; large images are decoded faster so, those stored in colour twice as fast.
        least_side: short side that a picture must have, in pixels.

    Returns:
        The image, its pixels uint8, or uint16 for files of more than 8 bits. Images keep their
        stored values; DICOM is rendered through its display window to the full range.

    Raises:
        UnreadableImage: for whatever is not one readable image.
    """
    kind = _sniff(content)
    try:
        # What a decoder grumbles about and still reads is no news to the caller.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(content, kind, shortest, least_side)
    except UnreadableImage:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise UnreadableImage(
            f"the {kind} file needs too much memory: export the image at its normal size",
            "too-large",
        ) from error
    except Exception as error:
        # Decoders raise whatever they like on damaged bytes, struct.error and KeyError included.
        raise UnreadableImage(
            f"the {kind} file is damaged or cut short: export the image again", "damaged"
        ) from error


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


# --- what kind of file -----------------------------------------------------------------------

_SIGNATURES: tuple[tuple[bytes, Format | Literal["GIF"]], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    # File meta information without its preamble: (0002,0000), value representation UL, 4 bytes.
    (b"\x02\0\0\0UL\x04\0", "DICOM"),
)
_STRANGERS = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BM", "a BMP"),
    (b"\0\0\0\x0cjP  ", "a bare JPEG 2000 file"),
    (b"\xff\x4f\xff\x51", "a bare JPEG 2000 file"),
)


def _sniff(content: bytes) -> Format | Literal["GIF"]:
    if not content:
        raise UnreadableImage("the file is empty: choose the image again", "empty")
    for signature, kind in _SIGNATURES:
        if content.startswith(signature):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[128:132] == b"DICM":
        return "DICOM"
    raise _not_an_image(_stranger(content))


def _not_an_image(name: str) -> UnreadableImage:
    return UnreadableImage(
        f"expected PNG, JPEG, TIFF, WebP or DICOM, got {name}: export the image itself as an image",
        "not-an-image",
    )


def _stranger(content: bytes) -> str:
    for signature, name in _STRANGERS:
        if content.startswith(signature):
            return name
    if content[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    head = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"<"):
        return "an HTML or XML page"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "text"
    return "an unknown kind of file"


# --- raster images -----------------------------------------------------------------------------

_MULTI_FRAME: tuple[str, Refusal] = (
    "the file holds several pictures or pages: export the one image as a single picture",
    "multi-frame",
)
_ALPHA = "an alpha channel"
_REFUSED_MODES = {
    "CMYK": "CMYK colours",
    "LA": _ALPHA,
    "La": _ALPHA,
    "PA": _ALPHA,
    "RGBA": _ALPHA,
    "RGBa": _ALPHA,
    "1": "only black and white",
    "I": "32-bit pixels",
    "F": "floating-point pixels",
}
_DEEP_MODES = ("I;16", "I;16L", "I;16B")
_COLOUR_MODES = ("RGB", "P", "YCbCr")


def _read(
    content: bytes, kind: Format | Literal["GIF"], shortest: int | None, least_side: int
) -> Radiograph:
    if kind == "GIF":
        raise _gif_refusal(content)
    if kind == "DICOM":
        # pydicom takes longer to import than all the rest, and most images are no DICOM.
        from ml.imaging.dicom import read_dicom

        image = read_dicom(content)
    else:
        image = _read_image(content, kind, shortest, least_side)
    if image.pixels.min() == image.pixels.max():
        raise UnreadableImage("the image is blank: every pixel has the same grey", "blank")
    return image


def _gif_refusal(content: bytes) -> UnreadableImage:
    with Image.open(io.BytesIO(content), formats=["GIF"]) as image:
        animated = getattr(image, "is_animated", False)
    return UnreadableImage(*_MULTI_FRAME) if animated else _not_an_image("a GIF")


def _read_image(content: bytes, kind: Format, shortest: int | None, least_side: int) -> Radiograph:
    if kind == "JPEG" and content.count(b"\xff\xda") > _MOST_SCANS:
        raise UnreadableImage(
            "the JPEG is cut into too many scans: export the image as an ordinary JPEG", "too-slow"
        )
    with Image.open(io.BytesIO(content), formats=[kind]) as image:
        _check_header(image, least_side)
        mode, (width, height) = image.mode, image.size
        if shortest is not None:
            image.draft(None, (shortest, shortest))
        orientation = image.getexif().get(0x0112, 1)
        image.load()
        # Pillow turns a TIFF while loading it, and reports the turned size from the start.
        if kind != "TIFF":
            ImageOps.exif_transpose(image, in_place=True)
            if orientation in (5, 6, 7, 8):
                width, height = height, width
        pixels = _grey(image)
    bits = 8 * pixels.dtype.itemsize
    return Radiograph(
        pixels=pixels,
        width=width,
        height=height,
        format=kind,
        bits=bits,
        metadata={"Mode": mode, "BitsStored": str(bits)},
        turned=orientation != 1,
    )


def _check_header(image: Image.Image, least_side: int) -> None:
    check_size(*image.size, least_side)
    if getattr(image, "is_animated", False):
        raise UnreadableImage(*_MULTI_FRAME)
    colours = _REFUSED_MODES.get(image.mode)
    if "transparency" in image.info:
        colours = "transparent parts"
    if colours is None and image.mode not in ("L", *_DEEP_MODES, *_COLOUR_MODES):
        colours = f"the colour model {image.mode}"
    if colours is not None:
        raise UnreadableImage(
            f"the picture has {colours}: export the image in greyscale, 8 or 16 bits",
            "unsupported-colour",
        )


def _grey(image: Image.Image) -> Pixels:
    """A loaded image of an accepted mode -> (H, W)."""
    if image.mode in _DEEP_MODES:
        deep = np.asarray(image).astype(np.uint16)
        return ~deep if _is_white_zero(image) else deep
    if image.mode in _COLOUR_MODES:
        picture = image.convert("RGB")
        _refuse_colourful(picture)
        image = picture.convert("L")
    return np.asarray(image)


def _is_white_zero(image: Image.Image) -> bool:
    # Pillow inverts such TIFF files of 8 bits, but leaves those of 16 bits as they are.
    photometric = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION
    return isinstance(image, TiffImagePlugin.TiffImageFile) and (image.tag_v2.get(photometric) == 0)


def _refuse_colourful(picture: Image.Image) -> None:
    # Averaged to about 256 pixels: cheap for any size, and the colour noise of JPEG goes away.
    small = picture.reduce(max(1, min(picture.size) // 256))
    spread = np.ptp(np.asarray(small), axis=2)
    if np.mean(spread > COLOUR_SPREAD) > COLOUR_SHARE:
        raise UnreadableImage(
            "the picture is in colour, a chest X-ray is grey: export the image itself",
            "not-a-radiograph",
        )


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
