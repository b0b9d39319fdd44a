"""What decoding a file may cost, known from its header before a decoder sees it.

A WebP file of 34 bytes can name 50 million pixels, and its decoder takes about 20 bytes for each.
"""

from ml.imaging.types import UnreadableImage
from ml.texts import msg

# About 400 MB at the 20 bytes a pixel that were measured.
MOST_WEBP_PIXELS = 20_000_000
# An X-ray has noise: lossless or not, none is packed this densely.
MOST_PIXELS_PER_BYTE = 4096
_CHUNK, _DATA = 12, 20  # offsets of the first chunk's name and content


def require_affordable(content: bytes) -> None:
    """Refuse a file whose header names more pixels than it can hold or the server can afford.

    Raises:
        UnreadableImage: it is a WebP file that is too large or implausibly small.
    """
    size = webp_size(content)
    if size is None:
        return
    width, height = size
    if width * height > MOST_WEBP_PIXELS:
        raise UnreadableImage(
            msg(
                "The WebP file has %(width)s x %(height)s pixels, more than "
                "%(most_webp_pixels)s million. Export the image as PNG or JPEG.",
                width=str(width),
                height=str(height),
                most_webp_pixels=MOST_WEBP_PIXELS // 1000000,
            ),
            "too-large",
        )
    if width * height > MOST_PIXELS_PER_BYTE * len(content):
        raise UnreadableImage(
            msg(
                "The WebP file names %(width)s x %(height)s pixels but has only %(content)s "
                "bytes. Export the image again.",
                width=str(width),
                height=str(height),
                content=len(content),
            ),
            "damaged",
        )


def webp_size(content: bytes) -> tuple[int, int] | None:
    """Width and height in pixels that a WebP file's header names; None for any other file.

    See RFC 9649, sections 2.5 to 2.7.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP" or len(content) < _DATA + 10:
        return None
    name, data = content[_CHUNK : _CHUNK + 4], content[_DATA : _DATA + 10]
    if name == b"VP8X":
        return _little(data[4:7]) + 1, _little(data[7:10]) + 1
    if name == b"VP8L":
        packed = _little(data[1:5])
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if name == b"VP8 ":
        return _little(data[6:8]) & 0x3FFF, _little(data[8:10]) & 0x3FFF
    return None


def _little(content: bytes) -> int:
    return int.from_bytes(content, "little")
