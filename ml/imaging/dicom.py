"""DICOM: one monochrome radiograph, rendered through its own display window.

Every stored value of 8 or 16 bits has one grey level, so the whole grey pipeline of the standard
(modality transform, window, inversion, padding) is computed once for a table of all values and
the pixels are looked up in it. Headers are taken at their word only where the pixel data agree.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmread, uid
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder

from ml.imaging.grey_levels import levels_in, look_up
from ml.imaging.strip_metadata import jpeg_segments
from ml.imaging.types import (
    MAX_PIXELS,
    Pixels,
    Radiograph,
    Refusal,
    UnreadableImage,
    check_size,
)

# Radiographs of a chest come as computed, digital or digitised image; an unnamed one may pass.
MODALITIES = ("CR", "DX", "RG", "")
# A deflated file inflates to its pixels and some headers.
MAX_INFLATED = 2 * MAX_PIXELS + 2**22
_LARGEST_REAL = 1e9
_J2K_START = b"\xff\x4f\xff\x51"
_NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
_JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000)
_JPEG = (
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
)
# Named, so that pydicom does not try whatever else happens to be installed.
_PLUGINS = {
    **dict.fromkeys(_NATIVE, ""),
    **dict.fromkeys((*_JPEG, *_JPEG_2000), "pylibjpeg"),
    # The common 8-bit JPEG: four times faster there, in the most hardened of the libraries.
    uid.JPEGBaseline8Bit: "pillow",
    uid.RLELossless: "pydicom",
}
# What may leave the file, and the only forms it may have. A value of another form is dropped.
_NUMBER = r"[0-9][0-9.]{0,15}"
_METADATA = {
    "Modality": r"[A-Z]{2}",
    # Defined terms alone: free text in these elements may hold a name.
    "BodyPartExamined": r"CHEST|THORAX|LUNG|RIB|HEART|ABDOMEN|WHOLEBODY|CHESTABDOMEN",
    "ViewPosition": r"PA|AP|LL|RL|RLD|LLD|RLO|LLO|AP SUPINE|AP ERECT",
    "PatientSex": r"[MFO]",
    "PatientAge": r"[0-9]{3}Y",
    "PixelSpacing": rf"{_NUMBER}\\{_NUMBER}",
    "ImagerPixelSpacing": rf"{_NUMBER}\\{_NUMBER}",
    "PhotometricInterpretation": r"MONOCHROME[12]",
    "BitsStored": r"[0-9]{1,2}",
}
# From this age on a year of age can name a person.
_OLDEST_AGE = 89
_PIXEL_ELEMENTS = (
    "TransferSyntaxUID",
    "SamplesPerPixel",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "PixelData",
)


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the header says of the stored pixels, checked for sense."""

    rows: int
    columns: int
    allocated: int
    stored: int
    signed: bool
    inverted: bool

    def values(self) -> NDArray[np.float64]:
        """The stored value of each unsigned level, (2 ** allocated,)."""
        levels = np.arange(2**self.allocated, dtype=np.float64)
        if self.signed:
            levels[levels.size // 2 :] -= levels.size
        return levels


def read_dicom(content: bytes) -> Radiograph:
    """Decode a DICOM file of one chest radiograph.

    Args:
        content: the whole file, with or without the preamble of 128 bytes.

    Returns:
        The image, uint16 over its full range whatever the stored depth, with the modality
        transform and the first display window applied and MONOCHROME1 inverted.

    Raises:
        UnreadableImage: not a single monochrome radiograph, or a header that contradicts itself.
        Exception: whatever pydicom or its decoders raise on damaged files;
            `ml.imaging.decode.read_image`
            turns it into an `UnreadableImage`.
    """
    dataset = _parse(content)
    _refuse_other_objects(dataset)
    layout = _layout(dataset)
    index = _decode(dataset, layout)
    return Radiograph(
        pixels=_render(index, layout, dataset),
        width=layout.columns,
        height=layout.rows,
        format="DICOM",
        bits=layout.stored,
        metadata=_metadata(dataset),
    )


def _refuse(what: str, code: Refusal = "damaged") -> UnreadableImage:
    return UnreadableImage(f"the DICOM file {what}: export the image again", code)


# --- parsing ---------------------------------------------------------------------------------


def _parse(content: bytes) -> FileDataset:
    """Read the few elements that are needed; all others, names included, are skipped."""
    if content[128:132] != b"DICM":
        content = bytes(128) + b"DICM" + content
    _check_syntax(content)
    return dcmread(io.BytesIO(content), specific_tags=[*_PIXEL_ELEMENTS, *_METADATA], force=False)


def _check_syntax(content: bytes) -> None:
    """Refuse unknown encodings, and inflate bombs before pydicom inflates them."""
    stream = io.BytesIO(content)
    stream.seek(132)
    meta = read_dataset(
        stream,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _representation, _length: tag.group != 2,
    )
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None:
        raise _refuse("was cut short, or does not say how it is encoded")
    if syntax not in _PLUGINS:
        # The name of an unknown one is what stands in the file, which is not to be repeated.
        known = isinstance(syntax, uid.UID) and syntax.name != syntax
        raise UnreadableImage(
            f"the DICOM file is encoded as {syntax.name if known else 'something unknown'}: "
            "export it uncompressed or as JPEG 2000",
            "unsupported-encoding",
        )
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        _check_inflated_size(stream.read())


def _check_inflated_size(deflated: bytes) -> None:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    while deflated and not inflater.eof:
        size += len(inflater.decompress(deflated, 2**20))
        deflated = inflater.unconsumed_tail
        if size > MAX_INFLATED:
            raise _refuse("inflates to more than any image needs", "too-large")


def _refuse_other_objects(dataset: Dataset) -> None:
    if "PixelData" not in dataset:
        # pydicom gives up on the elements it has where an encapsulated value has no end.
        if "Rows" in dataset or not dataset:
            raise _refuse("was cut short before its pixels")
        raise UnreadableImage(
            "the DICOM file holds no picture: choose the object with the image itself",
            "not-an-image",
        )
    modality = str(dataset.get("Modality") or "")
    if modality not in MODALITIES:
        shown = modality if re.fullmatch("[A-Z]{2,4}", modality) else "unknown"
        raise UnreadableImage(
            f"the DICOM modality is {shown}, a chest X-ray is CR, DX or RG: "
            "choose the radiograph itself",
            "not-a-radiograph",
        )
    if _integer(dataset, "NumberOfFrames", 1) != 1:
        raise UnreadableImage(
            "the DICOM file holds several frames: export the one image as a single picture",
            "multi-frame",
        )


# --- the stored pixels -------------------------------------------------------------------------


def _layout(dataset: Dataset) -> _Layout:
    photometric = dataset.get("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or (
        _integer(dataset, "SamplesPerPixel", 1) != 1
    ):
        raise UnreadableImage(
            "the DICOM file is not monochrome: export the image in greyscale, 8 or 16 bits",
            "unsupported-colour",
        )
    layout = _Layout(
        rows=_integer(dataset, "Rows"),
        columns=_integer(dataset, "Columns"),
        allocated=_integer(dataset, "BitsAllocated"),
        stored=_integer(dataset, "BitsStored"),
        signed=_integer(dataset, "PixelRepresentation", 0) == 1,
        inverted=photometric == "MONOCHROME1",
    )
    check_size(layout.columns, layout.rows)
    if layout.allocated not in (8, 16):
        raise _refuse(f"has {layout.allocated} bits a pixel", "unsupported-encoding")
    if not 1 <= layout.stored <= layout.allocated:
        raise _refuse(f"claims {layout.stored} bits in pixels of {layout.allocated}")
    if _integer(dataset, "HighBit", layout.stored - 1) != layout.stored - 1:
        raise _refuse("has its grey levels in unusual bits", "unsupported-encoding")
    return layout


def _integer(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    value = dataset.get(keyword)
    if value is None:
        value = default
    if not isinstance(value, int):
        raise _refuse(f"has no usable {keyword}")
    return int(value)


def _decode(dataset: FileDataset, layout: _Layout) -> Pixels:
    """Decompress the pixel data: stored values as unsigned levels, (H, W)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    _check_shape(dataset.PixelData, syntax, layout)
    options: dict[str, Any] = {
        "decoding_plugin": _PLUGINS[syntax],
        "allow_excess_frames": False,
        # Unused high bits extend the sign; without a sign they must be zero, see `_render`.
        "correct_unused_bits": layout.signed,
    }
    decoded, _ = get_decoder(syntax).as_array(dataset, index=0, raw=True, **options)
    if decoded.shape != (layout.rows, layout.columns):
        raise _refuse("has pixels of another size than its header says")
    native = decoded.astype(decoded.dtype.newbyteorder("="), copy=False)
    return native.view(np.uint8) if layout.allocated == 8 else native.view(np.uint16)


def _check_shape(encoded: bytes, syntax: uid.UID, layout: _Layout) -> None:
    """Compare the header's size with that of the pixel data, before anything is allocated."""
    if syntax in _NATIVE:
        length = layout.rows * layout.columns * layout.allocated // 8
        fits = len(encoded) in (length, length + length % 2)
    elif syntax == uid.RLELossless:
        fits = _rle_fits(get_frame(encoded, 0, number_of_frames=1), layout)
    else:
        shape = _j2k_shape if syntax in _JPEG_2000 else _jpeg_shape
        fits = shape(get_frame(encoded, 0, number_of_frames=1)) == (layout.rows, layout.columns, 1)
    if not fits:
        raise _refuse("has pixels of another size than its header says")


def _rle_fits(frame: bytes, layout: _Layout) -> bool:
    """Whether each byte plane unpacks to one byte a pixel; some writers pad, by less than a row.

    pydicom unpacks whatever there is, and cuts off what is too much.
    """
    count, *starts = struct.unpack_from("<16L", frame)
    if count != layout.allocated // 8:
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


def _j2k_shape(codestream: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a JPEG 2000 codestream, bare or in a JP2 box."""
    start = codestream.index(_J2K_START)
    right, bottom, left, top = struct.unpack_from(">4I", codestream, start + 8)
    (components,) = struct.unpack_from(">H", codestream, start + 40)
    return bottom - top, right - left, components


def _jpeg_shape(codestream: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a JPEG or JPEG-LS codestream."""
    for marker, payload in jpeg_segments(codestream):
        is_frame = 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)
        if is_frame or marker == 0xF7:
            _precision, rows, columns, components = struct.unpack_from(">BHHB", payload)
            return rows, columns, components
    raise _refuse("has pixel data without a JPEG header")


# --- grey levels -------------------------------------------------------------------------------


def _render(index: Pixels, layout: _Layout, dataset: Dataset) -> Pixels:
    """Stored levels -> grey levels over the full range of uint16, bone bright."""
    values = layout.values()
    padding = _padding(values, dataset)
    shown = levels_in(index) & ~padding
    if not shown.any():
        raise UnreadableImage("the image is blank: it is all padding", "blank")
    _check_range(values[shown], layout)

    levels = _modality_transform(values, dataset)
    brightness = _display_transform(levels, shown, dataset)
    if layout.inverted:
        brightness = 1.0 - brightness
    if np.ptp(brightness[shown]) == 0:
        raise UnreadableImage("the image is blank: its display window shows a single grey", "blank")
    # Padding lies outside of the exposed field, which is looked at as black.
    brightness[padding] = 0.0

    # 16 bits also for an image of 8: stretched to 8 bits it would be rounded a second time.
    return look_up(np.rint(brightness * 65535.0).astype(np.uint16), index)


def _padding(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.bool_]:
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, np.bool_)
    first = _integer(dataset, "PixelPaddingValue")
    last = _integer(dataset, "PixelPaddingRangeLimit", first)
    return (values >= min(first, last)) & (values <= max(first, last))


def _check_range(values: NDArray[np.float64], layout: _Layout) -> None:
    lowest = -(2 ** (layout.stored - 1)) if layout.signed else 0
    highest = lowest + 2**layout.stored - 1
    if values.min() < lowest or values.max() > highest:
        raise _refuse(f"claims {layout.stored} bits a pixel, but its pixels have more")


def _modality_transform(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    if dataset.get("ModalityLUTSequence"):
        return _table_transform(values, dataset, "ModalityLUTSequence")
    slope = _real(dataset, "RescaleSlope", 1.0)
    if slope == 0:
        raise _refuse("has a RescaleSlope of 0")
    return values * slope + _real(dataset, "RescaleIntercept", 0.0)


def _display_transform(
    levels: NDArray[np.float64], shown: NDArray[np.bool_], dataset: Dataset
) -> NDArray[np.float64]:
    """Modality values -> brightness from 0 to 1, by the first window of the file."""
    if dataset.get("VOILUTSequence"):
        levels = _table_transform(levels, dataset, "VOILUTSequence")
    elif dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        return _window(levels, dataset)
    low, high = float(levels[shown].min()), float(levels[shown].max())
    return np.clip((levels - low) / ((high - low) or 1.0), 0.0, 1.0)


def _window(levels: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, scaled to the range from 0 to 1."""
    center = _real(dataset, "WindowCenter")
    width = _real(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    shape = _WINDOWS.get(function)
    if shape is None:
        raise _refuse("has an unknown window function", "unsupported-encoding")
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise _refuse(f"has a window width of {width:g}")
    return np.clip(shape(levels, center, width), 0.0, 1.0)


def _linear(levels: NDArray[np.float64], center: float, width: float) -> NDArray[np.float64]:
    # A width of 1 is a threshold: half a level below the centre.
    return _linear_exact(levels, center - 0.5, max(width - 1.0, 1e-6))


def _linear_exact(levels: NDArray[np.float64], center: float, width: float) -> NDArray[np.float64]:
    return (levels - center) / width + 0.5


def _sigmoid(levels: NDArray[np.float64], center: float, width: float) -> NDArray[np.float64]:
    # The logistic function, written so that it cannot overflow.
    return 0.5 + 0.5 * np.tanh(2.0 * (levels - center) / width)


_WINDOWS: dict[str, Callable[[NDArray[np.float64], float, float], NDArray[np.float64]]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}


def _table_transform(
    levels: NDArray[np.float64], dataset: Dataset, keyword: str
) -> NDArray[np.float64]:
    """Apply the first lookup table of a sequence; values outside get its first or last entry.

    pydicom's own functions wrap values around where table and pixels differ in depth.
    """
    item = dataset[keyword].value[0]
    entries, first, _depth = (int(number) for number in item.LUTDescriptor)
    entries = entries or 2**16
    if levels.min() < 0 and first >= 2**15:
        # A first value below zero that was written or read as unsigned.
        first -= 2**16
    table = _table(item, dataset)[:entries]
    if table.size < entries or entries < 2:
        raise _refuse(f"has a {keyword} that is cut short")
    position = np.clip(np.rint(levels) - first, 0, entries - 1).astype(np.intp)
    transformed: NDArray[np.float64] = table[position]
    return transformed


def _table(item: Dataset, dataset: Dataset) -> NDArray[np.float64]:
    content = item.LUTData
    if isinstance(content, bytes):
        content = np.frombuffer(content, "<u2" if dataset.is_little_endian else ">u2")
    return np.asarray(content, dtype=np.float64)


def _real(dataset: Dataset, keyword: str, default: float | None = None) -> float:
    """The first value of a decimal element, of a size that needs no care for overflow."""
    value = dataset.get(keyword)
    if value is None:
        value = default
    if not isinstance(value, int | float | str):
        value = value[0]
    number = float(value)
    # Written so that a value that is no number is refused as well.
    if not abs(number) <= _LARGEST_REAL:
        raise _refuse(f"has no usable {keyword}")
    return number


# --- metadata ------------------------------------------------------------------------------------


def _metadata(dataset: Dataset) -> dict[str, str]:
    """The allow-listed elements whose value has the form it should have."""
    metadata = {}
    for keyword, form in _METADATA.items():
        text = _text(dataset, keyword)
        if re.fullmatch(form, text):
            metadata[keyword] = text
    age = metadata.get("PatientAge")
    if age is not None and int(age[:3]) > _OLDEST_AGE:
        metadata["PatientAge"] = f"{_OLDEST_AGE + 1:03}Y+"
    return metadata


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if value is None:
        return ""
    if isinstance(value, str | int):
        return str(value)
    return "\\".join(str(part) for part in value)
