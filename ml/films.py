"""The one place where bytes become a film.

`read_film` takes the bytes of a PNG, JPEG, TIFF, WebP or DICOM file and gives a greyscale film,
or refuses with an `UnreadableFilm` that says what was wrong and what to do. What a file is, is
told by its first bytes, never by its name.

Decoders are large C libraries: a server reads strangers' files in a child process only.
"""

import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from ml.errors import XrayError

MAX_PIXELS = 50_000_000
# A progressive JPEG has about ten; each is a pass over the whole picture, even an empty one.
_MOST_SCANS = 100
MIN_SIDE = 64
# A generator's films may be smaller than any that came out of an X-ray machine.
MIN_SYNTHETIC_SIDE = 16
THUMBNAIL_SIDE = 256

# A film is grey. A tint of the film base and a small coloured mark are let through; a picture
# with colour on more than this share of its area is something else.
COLOUR_SPREAD = 40
COLOUR_SHARE = 0.05

# Named here so that Pillow knows these four formats without importing all of its plugins.
PLUGINS = (JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)

Format = Literal["JPEG", "PNG", "TIFF", "WebP", "DICOM"]
Pixels = NDArray[np.uint8 | np.uint16]
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
    "not-a-film",
    "blank",
]


class UnreadableFilm(XrayError, ValueError):
    """A file that is no usable film; the message says what was wrong and what to do.

    Attributes:
        code: a stable word for programs, one of `Refusal`.
    """

    def __init__(self, message: str, code: Refusal = "damaged") -> None:
        super().__init__(message)
        self.code: Refusal = code


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A film as it is looked at: upright, grey, bone bright.

    Attributes:
        pixels: (H, W), uint8 or uint16, higher is brighter; smaller than `height` x `width`
            where `read_film` was allowed to reduce it.
        width: columns of the whole film, after an orientation flag was applied.
        height: rows of the whole film, after an orientation flag was applied.
        format: what the file was.
        bits: grey depth of the stored pixels, 1 to 16.
        metadata: a short allow-list of technical values; nothing that names a person or place.
        turned: the file carried an orientation flag, so its stored rows are not upright.
    """

    pixels: Pixels
    width: int
    height: int
    format: Format
    bits: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    turned: bool = False


def read_film(content: bytes, *, shortest: int | None = None, least_side: int = MIN_SIDE) -> Film:
    """Decode the bytes of a file into a film.

    Args:
        content: the whole file.
        shortest: where given, a JPEG may come back reduced, its short side at least this many
            pixels; large films are decoded faster so, those stored in colour twice as fast.
        least_side: short side that a picture must have, in pixels.

    Returns:
        The film, its pixels uint8, or uint16 for files of more than 8 bits. Images keep their
        stored values; DICOM is rendered through its display window to the full range.

    Raises:
        UnreadableFilm: for whatever is not one readable film.
    """
    kind = _sniff(content)
    try:
        # What a decoder grumbles about and still reads is no news to the caller.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(content, kind, shortest, least_side)
    except UnreadableFilm:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise UnreadableFilm(
            f"the {kind} file needs too much memory: export the film at its normal size",
            "too-large",
        ) from error
    except Exception as error:
        # Decoders raise whatever they like on damaged bytes, struct.error and KeyError included.
        raise UnreadableFilm(
            f"the {kind} file is damaged or cut short: export the film again", "damaged"
        ) from error


def display_image(film: Film, content: bytes) -> tuple[bytes, str]:
    """Make the picture that is stored and shown, free of the source's metadata.

    An upright 8-bit JPEG or PNG is stripped to its pixel data, without re-encoding. Anything
    else becomes an 8-bit greyscale PNG.

    Args:
        film: what `read_film` gave for `content`.
        content: the whole file.

    Returns:
        The picture's bytes and its media type, "image/jpeg" or "image/png".
    """
    if not film.turned and film.format == "JPEG":
        stripped = strip_jpeg(content)
        if stripped is not None:
            return stripped, "image/jpeg"
    if not film.turned and film.format == "PNG":
        stripped = strip_png(content)
        if stripped is not None:
            return stripped, "image/png"
    if film.pixels.shape != (film.height, film.width):
        film = read_film(content)
    return grey_png(_eight_bits(film.pixels)), "image/png"


def thumbnail_image(film: Film) -> bytes:
    """Make the small picture for lists: a greyscale JPEG of at most `THUMBNAIL_SIDE` pixels."""
    # Every few rows and columns first: the smoothing that follows needs only twice the size.
    step = max(1, min(film.pixels.shape) // (2 * THUMBNAIL_SIDE))
    image = Image.fromarray(_eight_bits(film.pixels[::step, ::step]))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    picture = io.BytesIO()
    image.save(picture, "JPEG", quality=85)
    return picture.getvalue()


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
    """Tell which levels occur in an unsigned image: (H, W) -> (256,) or (65536,)."""
    present = np.zeros(np.iinfo(index.dtype).max + 1, np.bool_)
    for rows in _bands(index):
        present[index[rows]] = True
    return present


def _bands(image: Pixels) -> Iterator[slice]:
    height, width = image.shape
    step = max(1, 2**20 // width)
    return (slice(top, top + step) for top in range(0, height, step))


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
        raise UnreadableFilm("the file is empty: choose the film again", "empty")
    for signature, kind in _SIGNATURES:
        if content.startswith(signature):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[128:132] == b"DICM":
        return "DICOM"
    raise _not_an_image(_stranger(content))


def _not_an_image(name: str) -> UnreadableFilm:
    return UnreadableFilm(
        f"expected PNG, JPEG, TIFF, WebP or DICOM, got {name}: export the film itself as an image",
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
    "the file holds several pictures or pages: export the one film as a single picture",
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
) -> Film:
    if kind == "GIF":
        raise _gif_refusal(content)
    if kind == "DICOM":
        # pydicom takes longer to import than all the rest, and most films are no DICOM.
        from ml.dicom import read_dicom

        film = read_dicom(content)
    else:
        film = _read_image(content, kind, shortest, least_side)
    if film.pixels.min() == film.pixels.max():
        raise UnreadableFilm("the film is blank: every pixel has the same grey", "blank")
    return film


def _gif_refusal(content: bytes) -> UnreadableFilm:
    with Image.open(io.BytesIO(content), formats=["GIF"]) as image:
        animated = getattr(image, "is_animated", False)
    return UnreadableFilm(*_MULTI_FRAME) if animated else _not_an_image("a GIF")


def _read_image(content: bytes, kind: Format, shortest: int | None, least_side: int) -> Film:
    if kind == "JPEG" and content.count(b"\xff\xda") > _MOST_SCANS:
        raise UnreadableFilm(
            "the JPEG is cut into too many scans: export the film as an ordinary JPEG", "too-slow"
        )
    with Image.open(io.BytesIO(content), formats=[kind]) as image:
        _check_header(image, least_side)
        mode, (width, height) = image.mode, image.size
        if shortest is not None:
            image.draft(None, (shortest, shortest))
        orientation = image.getexif().get(0x0112, 1)
        image.load()
        # Pillow turns a TIFF while loading it, and has told the turned size from the start.
        if kind != "TIFF":
            ImageOps.exif_transpose(image, in_place=True)
            if orientation in (5, 6, 7, 8):
                width, height = height, width
        pixels = _grey(image)
    bits = 8 * pixels.dtype.itemsize
    return Film(
        pixels=pixels,
        width=width,
        height=height,
        format=kind,
        bits=bits,
        metadata={"Mode": mode, "BitsStored": str(bits)},
        turned=orientation != 1,
    )


def check_size(width: int, height: int, least_side: int = MIN_SIDE) -> None:
    """Refuse a size that is no film's, before a pixel of it is decoded.

    Raises:
        UnreadableFilm: over `MAX_PIXELS`, or a short side under `least_side`.
    """
    if width * height > MAX_PIXELS:
        raise UnreadableFilm(
            f"the picture has {width} x {height} pixels, more than "
            f"{MAX_PIXELS // 1_000_000} million: export the film at its normal size",
            "too-large",
        )
    if min(width, height) < least_side:
        raise UnreadableFilm(
            f"the picture has only {width} x {height} pixels, a film has at least {least_side} "
            "on its short side: export the film itself, not its thumbnail",
            "too-small",
        )


def _check_header(image: Image.Image, least_side: int) -> None:
    check_size(*image.size, least_side)
    if getattr(image, "is_animated", False):
        raise UnreadableFilm(*_MULTI_FRAME)
    colours = _REFUSED_MODES.get(image.mode)
    if "transparency" in image.info:
        colours = "transparent parts"
    if colours is None and image.mode not in ("L", *_DEEP_MODES, *_COLOUR_MODES):
        colours = f"the colour model {image.mode}"
    if colours is not None:
        raise UnreadableFilm(
            f"the picture has {colours}: export the film in greyscale, 8 or 16 bits",
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
        raise UnreadableFilm(
            "the picture is in colour, a chest film is grey: export the film itself",
            "not-a-film",
        )


def _eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Render a film for a screen: its grey levels, but for the outermost 0.1 %, to 0..255."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    step = max(1, math.isqrt(pixels.size // 2**20))
    low, high = np.percentile(pixels[::step, ::step], (0.1, 99.9))
    if low == high:
        low, high = float(pixels.min()), float(pixels.max())
    stretched = (np.arange(2**16) - low) * (255.0 / (high - low))
    table = np.rint(np.clip(stretched, 0.0, 255.0)).astype(np.uint8)
    return look_up(table, pixels).astype(np.uint8, copy=False)


def grey_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (H, W) grey levels as a PNG, several times faster than Pillow and no larger.

    Pillow tries five filters on every row. On a radiograph the difference from the row above is
    nearly always the best, and run lengths compress it better than a quick search for matches.
    """
    height, width = pixels.shape
    filtered = np.empty((height, width + 1), np.uint8)
    # Each row begins with the number of its filter: 2, the difference from the row above.
    filtered[:, 0] = 2
    filtered[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=filtered[1:, 1:])
    body = _deflate(filtered, zlib.Z_RLE)
    if len(body) > filtered.size // 2:
        # Not what radiographs look like: a pattern that repeats would be stored at full size.
        body = min(body, _deflate(filtered, zlib.Z_DEFAULT_STRATEGY), key=len)
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    chunks = (_png_chunk(b"IHDR", header), _png_chunk(b"IDAT", body), _png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _deflate(filtered: NDArray[np.uint8], strategy: int) -> bytes:
    deflater = zlib.compressobj(level=1, strategy=strategy)
    return deflater.compress(filtered.data) + deflater.flush()


def _png_chunk(name: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(name + payload)
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", checksum)


# --- stripping containers ------------------------------------------------------------------------

# A marker is never followed by 0 (a stuffed byte of data), and restarts belong to their scan.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_JPEG_START, _JPEG_END, _JPEG_SCAN = 0xD8, 0xD9, 0xDA
# Baseline, extended and progressive Huffman frames: what every browser can show.
_JPEG_PLAIN_FRAMES = (0xC0, 0xC1, 0xC2)
# Huffman tables, quantisation tables, restart interval, number of lines.
_JPEG_TABLES = (0xC4, 0xDB, 0xDD, 0xDC)


def jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Walk the segments of a JPEG stream up to its end marker.

    Yields:
        The second byte of the marker and the segment's payload, without its length field; for a
        start of scan the payload is followed by the entropy-coded data.

    Raises:
        ValueError: a segment reaches beyond the end.
    """
    position = 0
    while (found := _JPEG_MARKER.search(content, position)) is not None:
        marker, start = found[1][0], found.end()
        if marker == _JPEG_END:
            return
        if marker == _JPEG_START:
            position = start
            continue
        position = start + int.from_bytes(content[start : start + 2], "big")
        if not start + 2 <= position <= len(content):
            raise ValueError(f"JPEG segment {marker:#x} reaches beyond the end of the file")
        if marker == _JPEG_SCAN:
            following = _JPEG_MARKER.search(content, position)
            position = following.start() if following else len(content)
        yield marker, content[start + 2 : position]


def strip_jpeg(content: bytes) -> bytes | None:
    """Copy of a JPEG without anything but its pixels, or None where browsers cannot show it.

    Comments, EXIF, colour profiles, thumbnails and whatever follows the picture are dropped.
    The pixels are the same bit by bit.
    """
    kept = [b"\xff\xd8"]
    try:
        for marker, payload in jpeg_segments(content):
            if marker == _JPEG_SCAN:
                header_length = 2 + 1 + 2 * payload[0] + 3
                kept.append(b"\xff\xda" + header_length.to_bytes(2, "big") + payload)
            elif marker in _JPEG_PLAIN_FRAMES or marker in _JPEG_TABLES:
                if marker in _JPEG_PLAIN_FRAMES and payload[0] != 8:
                    return None
                kept.append(_jpeg_segment(marker, payload))
            elif 0xC0 <= marker <= 0xCF:
                # Lossless, hierarchical or arithmetic coding.
                return None
            elif marker == 0xE0 and payload.startswith(b"JFIF\0"):
                kept.append(_jpeg_segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"))
            elif marker == 0xEE and payload.startswith(b"Adobe") and len(payload) >= 12:
                # Its last byte tells a JPEG coded in RGB from one coded in YCbCr.
                kept.append(_jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0" + payload[11:12]))
    except (ValueError, IndexError):
        return None
    return b"".join([*kept, b"\xff\xd9"])


def _jpeg_segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload


def strip_png(content: bytes) -> bytes | None:
    """Copy of a PNG without anything but its pixels, or None where it has more than 8 bits.

    Only the critical chunks stay: header, palette, pixel data, end.
    """
    bit_depth = content[24]
    if bit_depth > 8:
        return None
    kept, position = [content[:8]], 8
    while position < len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        name = content[position + 4 : position + 8]
        if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            kept.append(content[position:end])
        if name == b"IEND":
            return b"".join(kept)
        position = end
    return None
