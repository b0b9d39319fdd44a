"""The one place where bytes become an image.

`read_image` takes the bytes of a PNG, JPEG, JPEG 2000, TIFF, WebP, BMP, HEIC or DICOM file and
gives a greyscale image, or refuses with an `UnreadableImage` that says what was wrong and what to
do. The format of a file is recognized by its first bytes, never by its name.

Decoders are large C libraries: a server reads strangers' files in a child process only.
"""

import io
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    Image,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ml.imaging.colour import grey_of_colour
from ml.imaging.heic import not_read, prepare_heic
from ml.imaging.strip_metadata import jpeg_segments
from ml.imaging.types import (
    MIN_SIDE,
    Format,
    Pixels,
    Radiograph,
    Refusal,
    UnreadableImage,
    check_size,
)
from ml.texts import msg

# A progressive JPEG has about ten; each is a pass over the whole picture, even an empty one.
_MOST_SCANS = 100
# Named here so that Pillow knows these formats without importing all of its plugins.
PLUGINS = (
    *(BmpImagePlugin, Jpeg2KImagePlugin, JpegImagePlugin),
    *(PngImagePlugin, TiffImagePlugin, WebPImagePlugin),
)
# Pages of a TIFF that are looked at for one that is not a thumbnail.
_MOST_PAGES = 16
# Bits to read where a JPEG without an end marker may have ended too early.
_JUNK = bytes.fromhex("5ac39639") * 16
_NO_ALPHA = {"LA": "L", "La": "L", "PA": "RGB", "RGBA": "RGB", "RGBa": "RGB"}


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
            msg(
                "The %(kind)s file needs too much memory. Export the image at its normal size.",
                kind=kind,
            ),
            "too-large",
        ) from error
    except Exception as error:
        # Decoders raise whatever they like on damaged bytes, struct.error and KeyError included.
        raise UnreadableImage(
            msg("The %(kind)s file is damaged or cut short. Export the image again.", kind=kind),
            "damaged",
        ) from error


def has_image_signature(head: bytes) -> bool:
    """Whether the first bytes of a file, 512 are enough, are those of an image.

    AVIF photographs are, though they are refused: their error says what to do.
    """
    try:
        return _sniff(head) != "GIF"
    except UnreadableImage:
        return _is_heif(head)


# --- what kind of file -----------------------------------------------------------------------

_SIGNATURES: tuple[tuple[bytes, Format | Literal["GIF"]], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"BM", "BMP"),
)
# Of single pictures; "mif1" is a container for either compression.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")
_HEIF_BRANDS = (*_HEIC_BRANDS, b"hevc", b"msf1", b"avif", b"avis")
_STRANGERS = (
    (b"%PDF", msg("a PDF")),
    (b"PK\x03\x04", msg("a ZIP archive")),
    (b"\x1f\x8b", msg("a gzip archive")),
)


def _sniff(content: bytes) -> Format | Literal["GIF"]:
    if not content:
        raise UnreadableImage(msg("The file is empty. Choose the image again."), "empty")
    # First, for the preamble of a DICOM file may look like any other format.
    if content[128:132] == b"DICM":
        return "DICOM"
    for signature, kind in _SIGNATURES:
        if content.startswith(signature):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if _is_bare_dicom(content):
        return "DICOM"
    if _is_heif(content):
        brands = content[8 : int.from_bytes(content[:4], "big")]
        if content[8:12] not in _HEIC_BRANDS or b"avif" in brands:
            raise not_read()
        return "HEIC"
    raise _not_an_image(_stranger(content))


def _is_heif(content: bytes) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS


def _is_bare_dicom(content: bytes) -> bool:
    """Whether bytes may be a DICOM file without its preamble, or a data set alone."""
    if content[:1] not in (b"\x02", b"\x08") and content[:2] != b"\0\x08":
        return False
    from ml.imaging.dicom import is_dicom

    return is_dicom(content)


def _not_an_image(name: str) -> UnreadableImage:
    return UnreadableImage(
        msg(
            "Expected PNG, JPEG, TIFF, WebP or DICOM, got %(name)s. Export the X-ray as an image.",
            name=name,
        ),
        "not-an-image",
    )


def _stranger(content: bytes) -> str:
    for signature, name in _STRANGERS:
        if content.startswith(signature):
            return name
    if content[4:8] == b"ftyp":
        return msg("a video file")
    head = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"<"):
        return msg("an HTML or XML page")
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return msg("text")
    return msg("an unknown kind of file")


# --- raster images -----------------------------------------------------------------------------

_MULTI_FRAME: tuple[str, Refusal] = (
    msg("The file holds several pictures or pages. Export the one image as a single picture."),
    "multi-frame",
)
_REFUSED_MODES = {
    "CMYK": "CMYK colours",
    "1": "only black and white",
}
_DEEP_MODES = ("I;16", "I;16L", "I;16B")
_WIDE_MODES = ("I", "F")
_COLOUR_MODES = ("RGB", "P", "YCbCr")
_PILLOW_NAMES = {"JPEG 2000": "JPEG2000", "HEIC": "HEIF"}


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
        raise UnreadableImage(
            msg("The image is blank: every pixel has the same value. Export it again."), "blank"
        )
    return image


def _gif_refusal(content: bytes) -> UnreadableImage:
    with Image.open(io.BytesIO(content), formats=["GIF"]) as image:
        animated = getattr(image, "is_animated", False)
    return UnreadableImage(*_MULTI_FRAME) if animated else _not_an_image(msg("a GIF"))


def _read_image(content: bytes, kind: Format, shortest: int | None, least_side: int) -> Radiograph:
    if kind == "JPEG":
        content = _checked_jpeg(content)
    if kind == "HEIC":
        prepare_heic()
    formats = [_PILLOW_NAMES.get(kind, kind)]
    with Image.open(io.BytesIO(content), formats=formats) as image:
        _choose_picture(image, kind)
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


def _checked_jpeg(content: bytes) -> bytes:
    """A JPEG with an end marker, of a bearable number of scans.

    Raises:
        UnreadableImage: it has too many scans, or ends before its picture does.
    """
    scans, sequential, ended = _jpeg_structure(content)
    if scans > _MOST_SCANS:
        raise UnreadableImage(
            msg("The JPEG is cut into too many scans. Export the image as an ordinary JPEG."),
            "too-slow",
        )
    if ended or not sequential or scans == 0:
        return content
    # A picture that ends too early continues with whatever bits follow; a whole one ignores them.
    whole, other = content + b"\xff\xd9", content + _JUNK + b"\xff\xd9"
    pictures = []
    for each in (whole, other):
        with Image.open(io.BytesIO(each), formats=["JPEG"]) as image:
            check_size(*image.size, 1)
            pictures.append(image.tobytes())
    if pictures[0] != pictures[1]:
        raise UnreadableImage(
            msg("The JPEG file is damaged or cut short. Export the image again."), "damaged"
        )
    return whole


def _jpeg_structure(content: bytes) -> tuple[int, bool, bool]:
    """How many scans a JPEG has, whether it is sequential, and whether it has an end marker.

    Scans are counted by walking the segments, for comments and what phones append hold anything.
    """
    scans, sequential, end = 0, False, 0
    try:
        for marker, payload in jpeg_segments(content):
            sequential = sequential or marker in (0xC0, 0xC1)
            scans += marker == 0xDA
            end = content.index(payload, end) + len(payload)
    except ValueError:
        return scans, sequential, True  # damaged, as the decoder will say
    return scans, sequential, content[end : end + 2] == b"\xff\xd9"


def _choose_picture(image: Image.Image, kind: Format) -> None:
    """Go to the one picture of a file: the main one of a phone's, the whole one with thumbnails."""
    pages = getattr(image, "n_frames", 1)
    if pages == 1 or kind in ("JPEG", "HEIC"):
        return
    if isinstance(image, TiffImagePlugin.TiffImageFile) and pages <= _MOST_PAGES:
        whole = [page for page in range(pages) if not _is_reduced(image, page)]
        if len(whole) == 1:
            image.seek(whole[0])
            return
    raise UnreadableImage(*_MULTI_FRAME)


def _is_reduced(image: TiffImagePlugin.TiffImageFile, page: int) -> bool:
    image.seek(page)
    # NewSubfileType: a bit for reduced resolution, one for a mask; the older SubfileType: 2.
    return bool(int(image.tag_v2.get(254, 0)) & 5) or image.tag_v2.get(255) == 2


def _check_header(image: Image.Image, least_side: int) -> None:
    check_size(*image.size, least_side)
    colours = _REFUSED_MODES.get(image.mode)
    known = ("L", *_DEEP_MODES, *_WIDE_MODES, *_COLOUR_MODES, *_NO_ALPHA)
    if colours is None and image.mode not in known:
        colours = msg("the colour model %(mode)s", mode=image.mode)
    if colours is not None:
        raise _refused_colours(colours)


def _refused_colours(colours: str) -> UnreadableImage:
    return UnreadableImage(
        msg(
            "The picture has %(colours)s. Export the image in greyscale, 8 or 16 bits.",
            colours=colours,
        ),
        "unsupported-colour",
    )


def _grey(image: Image.Image) -> Pixels:
    """A loaded image of an accepted mode -> (H, W)."""
    image = _opaque(image)
    if image.mode in _DEEP_MODES:
        deep = np.asarray(image).astype(np.uint16)
        return ~deep if _is_white_zero(image) else deep
    if image.mode in _WIDE_MODES:
        wide = _sixteen_bits(np.asarray(image))
        return ~wide if _is_white_zero(image) else wide
    if image.mode in _COLOUR_MODES:
        return grey_of_colour(image.convert("RGB"))
    return np.asarray(image)


def _opaque(image: Image.Image) -> Image.Image:
    """Drop an alpha channel, or a transparent colour, that makes nothing transparent.

    Raises:
        UnreadableImage: some of the picture is transparent.
    """
    key = image.info.get("transparency")
    if image.mode in _DEEP_MODES:
        if key is not None and (np.asarray(image) == key).any():
            raise _refused_colours("transparent parts")
        return image
    if image.mode not in _NO_ALPHA:
        if key is None:
            return image
        # As the format describes it: one colour of RGB or L, a table of a palette.
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if image.getchannel("A" if image.mode[-1] == "A" else "a").getextrema() != (255, 255):
        raise _refused_colours(msg("an alpha channel or transparent parts"))
    return image.convert(_NO_ALPHA[image.mode])


def _sixteen_bits(values: NDArray[np.int32 | np.float32]) -> NDArray[np.uint16]:
    """Signed or floating-point grey levels, moved and if need be scaled to 16 bits."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():
        raise UnreadableImage(
            msg("The picture has pixels that are no numbers. Export it in 8 or 16 bits."), "damaged"
        )
    whole = np.issubdtype(values.dtype, np.integer)
    offset = 0.0 if whole and low >= 0 and high <= 65535 else low
    scale = 1.0 if whole and high - offset <= 65535 else 65535.0 / ((high - low) or 1.0)
    return np.rint((values.astype(np.float64) - offset) * scale).astype(np.uint16)


def _is_white_zero(image: Image.Image) -> bool:
    # Pillow inverts such TIFF files of 8 bits, but leaves the others as they are.
    photometric = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION
    return isinstance(image, TiffImagePlugin.TiffImageFile) and (image.tag_v2.get(photometric) == 0)
