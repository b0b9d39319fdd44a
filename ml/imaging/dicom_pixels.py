"""The pixel data of a DICOM file -> stored values; each transfer syntax by one named library."""

import struct
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from pydicom import FileDataset, uid
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut

from ml.imaging.colour import grey_of_colour
from ml.imaging.dicom_layout import Layout
from ml.imaging.dicom_numbers import refuse
from ml.imaging.lossless_jpeg import decode_lossless_jpeg
from ml.imaging.strip_metadata import jpeg_segments
from ml.imaging.types import GreyImage, Pixels

_J2K_START = b"\xff\x4f\xff\x51"
_NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
_JPEG_2000 = (
    *(uid.JPEG2000Lossless, uid.JPEG2000),
    *(uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K),
)
_LOSSLESS_JPEG = (uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG = (
    *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, *_LOSSLESS_JPEG),
    *(uid.JPEGLSLossless, uid.JPEGLSNearLossless),
)
# Named, so that pydicom does not try whatever else happens to be installed.
SYNTAXES = {
    **dict.fromkeys(_NATIVE, ""),
    **dict.fromkeys((*_JPEG, *_JPEG_2000), "pylibjpeg"),
    # The common 8-bit JPEG: four times faster there, in the most hardened of the libraries.
    uid.JPEGBaseline8Bit: "pillow",
    uid.RLELossless: "pydicom",
}
# Sequential frames of DCT blocks: baseline and extended.
_SEQUENTIAL = (0xC0, 0xC1)


def decode_levels(dataset: FileDataset, layout: Layout) -> tuple[Pixels, Layout]:
    """Decompress grey pixels: stored values as unsigned levels, (H, W).

    Returns:
        The levels, and the layout with the bits that the compressed pixels really have.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in _NATIVE:
        dataset.PixelData = _without_excess(dataset.PixelData, layout)
    elif syntax != uid.RLELossless:
        frame = _frame(dataset.PixelData)
        layout = _with_precision(layout, _shape(frame, syntax)[3])
    _check_shape(dataset.PixelData, syntax, layout)
    if syntax in _LOSSLESS_JPEG:
        decoded: Pixels = decode_lossless_jpeg(frame, layout.stored)
    else:
        if syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
            dataset.PixelData = encapsulate([_whole_spectrum(frame)])
        decoded = _by_pydicom(dataset, layout, raw=True)
    if decoded.shape != (layout.rows, layout.columns):
        raise refuse("has pixels of another size than its header says")
    native = decoded.astype(decoded.dtype.newbyteorder("="), copy=False)
    return native.view(np.uint8) if layout.allocated == 8 else native.view(np.uint16), layout


def decode_colour(dataset: FileDataset, layout: Layout) -> GreyImage:
    """Decompress a captured colour picture of a grey image, (H, W).

    Raises:
        UnreadableImage: it has real colours.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in _NATIVE:
        dataset.PixelData = _without_excess(dataset.PixelData, layout)
    _check_shape(dataset.PixelData, syntax, layout)
    if "PlanarConfiguration" not in dataset and layout.samples == 3:
        dataset.PlanarConfiguration = 0
    picture = _by_pydicom(dataset, layout, raw=False)
    if layout.colour == "PALETTE COLOR":
        picture = apply_color_lut(picture, dataset)
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture.shape != (layout.rows, layout.columns, 3):
        raise refuse("has pixels of another size than its header says")
    return grey_of_colour(picture.astype(np.uint8, copy=False))


def _by_pydicom(dataset: FileDataset, layout: Layout, *, raw: bool) -> Pixels:
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.SamplesPerPixel, dataset.NumberOfFrames = layout.samples, 1
    dataset.PhotometricInterpretation = layout.colour or "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored = layout.allocated, layout.stored
    dataset.HighBit, dataset.PixelRepresentation = layout.stored - 1, int(layout.signed)
    options: dict[str, Any] = {
        "decoding_plugin": SYNTAXES[syntax],
        "allow_excess_frames": False,
        # Bits above the stored ones are looked at in `ml.imaging.dicom_grey`.
        "correct_unused_bits": False,
    }
    decoded: Pixels = get_decoder(syntax).as_array(dataset, index=0, raw=raw, **options)[0]
    return decoded


def _frame(encoded: bytes) -> bytes:
    return get_frame(encoded, 0, number_of_frames=1)


def _length(layout: Layout) -> int:
    pixels = layout.rows * layout.columns
    if layout.colour == "YBR_FULL_422":
        return 2 * pixels
    return pixels * layout.samples * layout.allocated // 8


def _without_excess(encoded: bytes, layout: Layout) -> bytes:
    """Drop padding after native pixels: equal bytes, or fewer than a wrong size would leave."""
    length = _length(layout)
    rest = encoded[length:]
    shortest = min(layout.rows, layout.columns) * layout.samples * layout.allocated // 8
    if len(rest) < shortest or rest.count(rest[:1]) == len(rest):
        return encoded[:length] + b"\0" * (length % 2) if rest else encoded
    return encoded


def _with_precision(layout: Layout, precision: int) -> Layout:
    """Trust a codestream about its depth: 8-bit samples may be declared as 16 allocated bits."""
    allocated = 8 if precision <= 8 else 16
    if allocated == layout.allocated:
        return layout
    return replace(layout, allocated=allocated, stored=precision)


def _whole_spectrum(frame: bytes) -> bytes:
    """Write the only valid spectrum, 0 to 63, into the scans of a sequential JPEG."""
    offset, sequential, repaired = 0, False, bytearray(frame)
    for marker, payload in jpeg_segments(frame):
        sequential = sequential or marker in _SEQUENTIAL
        offset = frame.index(payload, offset)
        if marker == 0xDA and sequential:
            selection = offset + 1 + 2 * payload[0]
            repaired[selection : selection + 3] = b"\0\x3f\0"
    return bytes(repaired)


def _check_shape(encoded: bytes, syntax: uid.UID, layout: Layout) -> None:
    """Compare the header's size with that of the pixel data, before anything is allocated."""
    if syntax in _NATIVE:
        length = _length(layout)
        fits = len(encoded) in (length, length + length % 2)
    elif syntax == uid.RLELossless:
        fits = _rle_fits(_frame(encoded), layout)
    else:
        shape = _shape(_frame(encoded), syntax)[:3]
        fits = shape == (layout.rows, layout.columns, layout.samples)
    if not fits:
        raise refuse("has pixels of another size than its header says")


def _shape(frame: bytes, syntax: uid.UID) -> tuple[int, int, int, int]:
    """Rows, columns, components and bits a sample of a codestream."""
    return _j2k_shape(frame) if syntax in _JPEG_2000 else _jpeg_shape(frame)


def _rle_fits(frame: bytes, layout: Layout) -> bool:
    """Whether each byte plane unpacks to one byte a pixel; some writers pad, by less than a row.

    pydicom unpacks whatever there is, and cuts off what is too much.
    """
    count, *starts = struct.unpack_from("<16L", frame)
    if count != layout.samples * layout.allocated // 8:
        return False
    pixels = layout.rows * layout.columns
    segments = (frame[start:end] for start, end in pairwise((*starts[:count], len(frame))))
    return all(
        0 <= _unpacked_length(segment, 2 * pixels) - pixels < layout.columns for segment in segments
    )


def _unpacked_length(segment: bytes, most: int) -> int:
    length = position = 0
    while position < len(segment) and length <= most:
        head = segment[position]
        if head < 128:
            # That many bytes and one more as they are.
            length += head + 1
            position += head + 2
        else:
            # One byte repeated; 128 itself stands for nothing.
            length += 257 - head if head > 128 else 0
            position += 2 if head > 128 else 1
    return length


def _j2k_shape(codestream: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, components and depth of a JPEG 2000 codestream, bare or in a JP2 box."""
    start = codestream.index(_J2K_START)
    right, bottom, left, top = struct.unpack_from(">4I", codestream, start + 8)
    components, depth = struct.unpack_from(">HB", codestream, start + 40)
    return bottom - top, right - left, components, (depth & 0x7F) + 1


def _jpeg_shape(codestream: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, components and precision of a JPEG or JPEG-LS codestream."""
    for marker, payload in jpeg_segments(codestream):
        is_frame = 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)
        if is_frame or marker == 0xF7:
            precision, rows, columns, components = struct.unpack_from(">BHHB", payload)
            return rows, columns, components, precision
    raise refuse("has pixel data without a JPEG header")
