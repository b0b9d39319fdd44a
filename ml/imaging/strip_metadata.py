"""Remove metadata from JPEG and PNG files without decoding them."""

import re
from collections.abc import Iterator

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
                # Its last byte distinguishes a JPEG coded in RGB from one coded in YCbCr.
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
