"""DICOM: one radiograph, rendered through its own display window.

Headers are taken at their word only where the pixel data agree. The parts: `dicom_header` (is it
a frontal chest X-ray), `dicom_layout` and `dicom_pixels` (the stored values), `dicom_grey` (their
grey levels), `dicom_numbers` (odd numbers).
"""

import io
import zlib

from pydicom import Dataset, FileDataset, uid
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag, Tag

from ml.imaging.dicom_grey import GREY_ELEMENTS, render
from ml.imaging.dicom_header import (
    HEADER_ELEMENTS,
    METADATA,
    header_warnings,
    metadata_of,
    refuse_other_views,
    text_of,
    upright,
)
from ml.imaging.dicom_layout import LAYOUT_ELEMENTS, read_layout
from ml.imaging.dicom_numbers import integer, refuse
from ml.imaging.dicom_pixels import SYNTAXES, decode_colour, decode_levels
from ml.imaging.types import MAX_PIXELS, Pixels, Radiograph, UnreadableImage
from ml.texts import msg

# A deflated file inflates to its pixels and some headers.
MAX_INFLATED = 2 * MAX_PIXELS + 2**22
_PIXEL_DATA = 0x7FE00010
_ELEMENTS = (
    *("TransferSyntaxUID", "NumberOfFrames", "PixelData"),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
    *LAYOUT_ELEMENTS,
    *GREY_ELEMENTS,
    *HEADER_ELEMENTS,
    *METADATA,
)
_REPRESENTATIONS = (b"CS", b"UI", b"DA", b"TM", b"SH", b"LO", b"UL", b"PN", b"DT", b"SQ", b"OB")


def read_dicom(content: bytes) -> Radiograph:
    """Decode a DICOM file of one frontal chest radiograph.

    Args:
        content: the whole file, with or without the preamble of 128 bytes and the file meta
            information.

    Returns:
        The image, upright by its header; uint16 over its full range whatever the stored depth,
        with the modality transform and the first display window applied and MONOCHROME1
        inverted. A captured colour picture of a grey image has 8 bits.

    Raises:
        UnreadableImage: not a single frontal radiograph, or a header that contradicts itself.
        Exception: whatever pydicom or its decoders raise on damaged files;
            `ml.imaging.decode.read_image`
            turns it into an `UnreadableImage`.
    """
    dataset = _parse(content)
    _refuse_other_objects(dataset)
    layout = read_layout(dataset)
    # Before the pixels are decoded, for which the header is made consistent.
    metadata, warnings = metadata_of(dataset), header_warnings(dataset)
    pixels: Pixels
    if layout.colour:
        pixels = decode_colour(dataset, layout)
    else:
        index, layout = decode_levels(dataset, layout)
        pixels, doubts = render(index, layout, dataset)
        warnings += doubts
    pixels = upright(pixels, dataset)
    height, width = pixels.shape
    return Radiograph(
        pixels=pixels,
        width=width,
        height=height,
        format="DICOM",
        bits=layout.stored,
        metadata=metadata,
        warnings=tuple(warnings),
    )


def is_dicom(content: bytes) -> bool:
    """Whether bytes are a DICOM file, a file without its preamble, or a data set alone."""
    return content[128:132] == b"DICM" or content[:2] == b"\2\0" or bool(_bare_syntax(content))


def _bare_syntax(content: bytes) -> uid.UID | None:
    """The encoding of a data set that begins with an element of group 8; None for other bytes."""
    group, element, representation = content[:2], content[2:4], content[4:6]
    if group == b"\0\x08" and representation in _REPRESENTATIONS:
        return uid.ExplicitVRBigEndian
    # The elements of group 8 that a file may begin with are numbered low and are short.
    if group != b"\x08\0" or element[1:] not in (b"\0", b"\1", b"\2", b"\3"):
        return None
    if representation in _REPRESENTATIONS:
        return uid.ExplicitVRLittleEndian
    short = int.from_bytes(content[4:8], "little") <= 256
    return uid.ImplicitVRLittleEndian if short else None


def _parse(content: bytes) -> FileDataset:
    """Read the few elements that are needed; all others, names included, are skipped."""
    if content[128:132] != b"DICM":
        content = bytes(128) + b"DICM" + _meta_of_bare(content) + content
    _check_syntax(content)
    seen: list[BaseTag] = []

    def after_pixels(tag: BaseTag, _representation: str | None, _length: int) -> bool:
        # Whatever follows the pixels is not read, for it may be no element at all.
        over = _PIXEL_DATA in seen
        seen[:] = [tag]
        return over

    return read_partial(
        io.BytesIO(content),
        stop_when=after_pixels,
        specific_tags=[Tag(keyword) for keyword in _ELEMENTS],
        force=False,
    )


def _meta_of_bare(content: bytes) -> bytes:
    syntax = _bare_syntax(content)
    if syntax is None:
        return b""
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    return b"\2\0\x10\0UI" + len(value).to_bytes(2, "little") + value


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
        raise refuse("was cut short, or does not say how it is encoded")
    if syntax not in SYNTAXES:
        # The name of an unknown one is what stands in the file, which is not to be repeated.
        known = isinstance(syntax, uid.UID) and syntax.name != syntax
        raise UnreadableImage(
            msg(
                "The DICOM file is encoded as %(syntax)s. Export it uncompressed or as JPEG 2000.",
                syntax=syntax.name if known else msg("something unknown"),
            ),
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
            raise refuse("inflates to more than any image needs", "too-large")


def _refuse_other_objects(dataset: Dataset) -> None:
    if "PixelData" not in dataset:
        # pydicom gives up on the elements it has where an encapsulated value has no end.
        if (
            "Rows" in dataset
            or not dataset
            or "Image" in uid.UID(text_of(dataset, "SOPClassUID")).name
        ):
            raise refuse("was cut short before its pixels")
        raise UnreadableImage(
            msg("The DICOM file holds no picture. Choose the object with the image itself."),
            "not-an-image",
        )
    refuse_other_views(dataset)
    # Some writers say 0 where they mean one picture.
    if integer(dataset, "NumberOfFrames", 1) not in (0, 1):
        raise UnreadableImage(
            msg("The DICOM file holds several frames. Export the one image as a single picture."),
            "multi-frame",
        )
