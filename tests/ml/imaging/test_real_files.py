"""Files that hospitals, phones and scanners really have, each made here from one image."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, Sequence, dcmread, uid

from ml.imaging.decode import read_image
from ml.imaging.lossless_jpeg import decode_lossless_jpeg
from ml.imaging.types import Refusal, UnreadableImage
from tests.support import images as made
from tests.support.images import (
    dicom,
    dicom_dataset,
    encode,
    jpeg,
    lossless_jpeg,
    png,
    synthetic_image,
    tiff,
    write_dicom,
)

IMAGE = synthetic_image(np.random.default_rng(7), 96, 80)
DEEP = IMAGE.astype(np.uint16) * 16


def levels(content: bytes) -> np.ndarray[Any, Any]:
    """The pixels, brought to the range 0 to 1."""
    pixels = read_image(content).pixels.astype(np.float64)
    return (pixels - pixels.min()) / np.ptp(pixels)


REFERENCE = levels(png(IMAGE))


def assert_shows_the_image(content: bytes, tolerance: float = 1e-4) -> None:
    assert np.abs(levels(content) - REFERENCE).max() < tolerance


def refused(content: bytes) -> Refusal:
    with pytest.raises(UnreadableImage) as caught:
        read_image(content)
    return caught.value.code


# --- what the DICOM header says of the picture ---------------------------------------------------


@pytest.mark.parametrize(
    "elements",
    [
        *({"ViewPosition": view} for view in ("LL", "RL", "LATERAL", "LAT", "l lateral", "LLO")),
        {"PatientOrientation": ["A", "F"]},
        {"ViewCodeSequence": "left lateral"},
    ],
)
def test_lateral_and_oblique_views_are_refused(elements: dict[str, Any]) -> None:
    assert refused(with_codes(elements)) == "not-frontal"


@pytest.mark.parametrize(
    "elements",
    [
        *({"BodyPartExamined": part} for part in ("HAND", "Hand L", "SKULL", "LSPINE", "LEG")),
        {"AnatomicRegionSequence": "Knee joint"},
    ],
)
def test_other_body_parts_are_refused(elements: dict[str, Any]) -> None:
    assert refused(with_codes(elements)) == "not-a-chest"


@pytest.mark.parametrize(
    "elements",
    [
        {"ViewPosition": "PA", "BodyPartExamined": "CHEST"},
        {"ViewPosition": "AP SUPINE", "BodyPartExamined": "CHESTABDOMEN"},
        {"ViewPosition": "LLD"},
        {"ViewPosition": "", "BodyPartExamined": "UNKNOWN"},
        {"BodyPartExamined": "RIBS"},
        {"AnatomicRegionSequence": "Chest"},
        {"PatientOrientation": ["L", "F"]},
    ],
)
def test_frontal_chest_and_unknown_values_are_read_without_warning(
    elements: dict[str, Any],
) -> None:
    assert read_image(with_codes(elements)).warnings == ()


def with_codes(elements: dict[str, Any]) -> bytes:
    elements = dict(elements)
    for keyword, meaning in elements.items():
        if keyword.endswith("Sequence"):
            code = Dataset()
            code.CodeMeaning = meaning
            elements[keyword] = Sequence([code])
    return dicom(DEEP, bits=12, **elements)


@pytest.mark.parametrize(
    ("elements", "warnings"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, ("for-processing",)),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, ("for-processing",)),
        ({"PresentationIntentType": "FOR PRESENTATION"}, ()),
        ({"Modality": "OT"}, ("not-an-x-ray-modality",)),
        ({"Modality": "SC", "BodyPartExamined": "CHEST"}, ()),
        ({"WindowCenter": 0, "WindowWidth": 0}, ("window-ignored",)),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, ("window-ignored",)),
        ({"VOILUTSequence": Sequence([Dataset()])}, ("window-ignored",)),
    ],
)
def test_doubts_become_warnings(elements: dict[str, Any], warnings: tuple[str, ...]) -> None:
    content = dicom(DEEP, bits=12, **elements)
    assert tuple(one.code for one in read_image(content).warnings) == warnings
    assert_shows_the_image(content)


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "doubtful"),
    [
        ("MONOCHROME1", "INVERSE", True, False),
        ("MONOCHROME1", "IDENTITY", True, True),
        ("MONOCHROME2", "INVERSE", False, True),
        ("MONOCHROME2", "IDENTITY", False, False),
    ],
)
def test_photometric_interpretation_decides_the_polarity(
    photometric: str, shape: str, inverted: bool, doubtful: bool
) -> None:
    stored = 4095 - DEEP if inverted else DEEP
    elements = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
    content = dicom(stored, bits=12, **elements)
    assert_shows_the_image(content)
    found = [one.code for one in read_image(content).warnings]
    assert found == (["grey-scale-unclear"] if doubtful else [])


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        ("L\\F", DEEP),
        ("R\\F", DEEP[:, ::-1]),
        ("L\\H", DEEP[::-1]),
        ("R\\H", DEEP[::-1, ::-1]),
        ("F\\L", DEEP.T),
        ("F\\R", DEEP[:, ::-1].T),
        ("H\\L", DEEP[::-1].T),
        ("", DEEP),
    ],
)
def test_patient_orientation_turns_the_image_upright(orientation: str, stored: made.Greys) -> None:
    content = dicom(
        np.ascontiguousarray(stored), bits=12, PatientOrientation=orientation.split("\\")
    )
    assert (read_image(content).height, read_image(content).width) == IMAGE.shape
    assert_shows_the_image(content)


def test_field_of_view_elements_describe_the_stored_pixels() -> None:
    elements = {"FieldOfViewRotation": 90, "FieldOfViewHorizontalFlip": "YES"}
    assert_shows_the_image(dicom(DEEP, bits=12, **elements))


# --- the stored pixels of DICOM ------------------------------------------------------------------


def padded_signed() -> made.Greys:
    stored = DEEP.astype(np.int16) - 1000
    stored[:4] = -30000
    return stored


@pytest.mark.parametrize("representation", ["SS", "US", "OW"])
def test_padding_value_written_with_another_type(representation: str) -> None:
    dataset = dicom_dataset(padded_signed())
    value: Any = {"SS": -30000, "US": 35536, "OW": (35536).to_bytes(2, "little")}[representation]
    dataset.add_new(0x00280120, representation, value)
    pixels = read_image(write_dicom(dataset, padded_signed(), uid.ExplicitVRLittleEndian)).pixels
    assert (pixels[:4] == 0).all()
    assert (pixels[4:].min(), pixels[4:].max()) == (0, 65535)


@pytest.mark.parametrize("preamble", [b"II*\0", b"MM\0*", b"\xff\xd8\xff\xe0", b"MZ", b"BM"])
def test_preamble_of_another_format(preamble: bytes) -> None:
    content = dicom(DEEP, bits=12)
    assert_shows_the_image(preamble + content[len(preamble) :])


@pytest.mark.parametrize("rest", [bytes(2), bytes(512), b"\xff" * 400, b"odd bytes that follow"])
def test_bytes_after_the_pixels(rest: bytes) -> None:
    content = dicom(DEEP, bits=12)
    assert_shows_the_image(content + rest)
    assert_shows_the_image(
        dicom(DEEP, bits=12, PixelData=DEEP.tobytes() + rest[: len(rest) // 2 * 2])
    )


@pytest.mark.parametrize("bit", [12, 15])
def test_overlay_in_the_bits_above(bit: int) -> None:
    overlay = np.zeros(DEEP.shape, np.uint16)
    overlay[10:30:2, 10:40] = 1 << bit
    assert_shows_the_image(dicom(DEEP | overlay, bits=12))


def test_lossless_jpeg_whose_differences_wrap() -> None:
    for bits, pixels in ((8, IMAGE), (12, DEEP)):
        stored = pixels.copy()
        stored[:, 40] = 2**bits - 1
        stored[:, 41] = 0
        codestream = lossless_jpeg(stored, bits, wrap=True)
        np.testing.assert_array_equal(decode_lossless_jpeg(codestream, bits), stored)


@pytest.mark.parametrize(
    "codestream",
    [lossless_jpeg(IMAGE, 8), jpeg(IMAGE, quality=100)],
    ids=["lossless", "baseline"],
)
def test_8_bit_codestream_in_16_allocated_bits(codestream: bytes) -> None:
    syntax = uid.JPEGLosslessSV1 if b"\xff\xc3" in codestream else uid.JPEGBaseline8Bit
    dataset = dicom_dataset(DEEP, bits=8)
    content = write_dicom(dataset, codestream, syntax)
    assert_shows_the_image(content, 1e-4 if syntax == uid.JPEGLosslessSV1 else 0.02)


def test_sequential_jpeg_whose_spectrum_ends_at_0() -> None:
    codestream = jpeg(IMAGE, quality=100)
    spectrum = codestream.index(b"\0\x3f\0", codestream.index(b"\xff\xda"))
    broken = codestream[:spectrum] + b"\0\0\0" + codestream[spectrum + 3 :]
    content = write_dicom(dicom_dataset(IMAGE), broken, uid.JPEGBaseline8Bit)
    assert_shows_the_image(content, 0.02)


@pytest.mark.parametrize("form", ["bytes", "words"])
def test_voi_table_of_8_bit_entries(form: str) -> None:
    table = (np.arange(4096) // 16).astype(np.uint8)
    item = Dataset()
    item.add_new(0x00283002, "US", [4096, 0, 8])
    data = table.tobytes() if form == "bytes" else table.view("<u2").tolist()
    item.add_new(0x00283006, "OW" if form == "bytes" else "US", data)
    assert_shows_the_image(dicom(DEEP, bits=12, VOILUTSequence=Sequence([item])))


@pytest.mark.parametrize(
    "elements", [{"NumberOfFrames": 0}, {"SamplesPerPixel": None}, {"PixelRepresentation": None}]
)
def test_element_that_is_missing_or_zero(elements: dict[str, Any]) -> None:
    assert_shows_the_image(dicom(DEEP, bits=12, **elements))


@pytest.mark.parametrize(
    ("center", "width", "warnings"),
    [
        (b"2047,5 ", b"4096,0", ()),
        (b"\\2047.5", b"\\4096 ", ()),
        (b"0 ", b"0 ", ("window-ignored",)),
        (b"wide", b"open", ("window-ignored",)),
    ],
)
def test_odd_decimal_texts_of_a_window(
    center: bytes, width: bytes, warnings: tuple[str, ...]
) -> None:
    content = dicom(DEEP, bits=12, WindowCenter="77777 ", WindowWidth="88888 ")
    for value, placeholder in ((center, b"77777 "), (width, b"88888 ")):
        length = len(value).to_bytes(2, "little")
        content = content.replace(b"\x06\0" + placeholder, length + value)
    image = read_image(content)
    assert tuple(one.code for one in image.warnings) == warnings
    assert np.abs(levels(content) - REFERENCE).max() < 1e-3


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_data_set_without_a_file_header(syntax: uid.UID) -> None:
    content = dicom(DEEP, bits=12, syntax=syntax)
    start = content.index(b"\x08\0\x16\0")
    assert_shows_the_image(content[start:])


def test_dicomdir_holds_no_picture() -> None:
    directory = dicom(DEEP, Rows=None, PixelData=None, SOPClassUID=uid.MediaStorageDirectoryStorage)
    with pytest.raises(UnreadableImage, match="holds no picture"):
        read_image(directory)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_captured_colour_picture_of_a_grey_image(photometric: str) -> None:
    stored = np.stack([IMAGE] * 3, axis=2)
    if photometric == "YBR_FULL":
        stored[..., 1:] = 128
    content = dicom(
        IMAGE,
        PhotometricInterpretation=photometric,
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PixelData=stored.tobytes(),
    )
    assert_shows_the_image(content, 0.01)


def test_captured_palette_picture() -> None:
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    ramp = (np.arange(256, dtype="<u2") * 257).tobytes()
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{colour}PaletteColorLookupTableData"] = ramp
    assert_shows_the_image(dicom(IMAGE, **elements))


def test_really_colourful_capture_is_refused() -> None:
    stored = np.stack([IMAGE, np.roll(IMAGE, 30, axis=1), 255 - IMAGE], axis=2)
    elements: dict[str, Any] = {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}
    content = dicom(IMAGE, PixelData=stored.tobytes(), PlanarConfiguration=0, **elements)
    assert refused(content) == "not-a-radiograph"


# --- pictures ------------------------------------------------------------------------------------


def alpha_of(mode: str, alpha: int) -> Image.Image:
    picture = Image.fromarray(IMAGE).convert(mode)
    picture.putalpha(alpha)
    return picture


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_opaque_alpha_is_dropped_and_transparency_refused(mode: str, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert_shows_the_image(encode(alpha_of(mode, 255), kind, **options))
    assert refused(encode(alpha_of(mode, 200), kind, **options)) == "unsupported-colour"


def test_transparent_colour_that_no_pixel_has() -> None:
    unused = int(np.setdiff1d(np.arange(256), IMAGE)[0])
    used = int(IMAGE[0, 0])
    palette = Image.fromarray(IMAGE).convert("P")
    for picture, scale in ((Image.fromarray(IMAGE), 1), (palette, 1), (Image.fromarray(DEEP), 16)):
        assert_shows_the_image(png(picture, transparency=unused * scale))
        assert refused(png(picture, transparency=used * scale)) == "unsupported-colour"
    assert_shows_the_image(png(palette, transparency=b"\xff" * 256))


def test_first_picture_of_a_phone_file_counts() -> None:
    second = Image.fromarray(IMAGE[::2, ::2])
    content = encode(
        Image.fromarray(IMAGE), "MPO", save_all=True, append_images=[second], quality=95
    )
    assert_shows_the_image(content, 0.05)


def test_scan_markers_in_comments_and_after_the_picture_are_no_scans() -> None:
    noise = np.random.default_rng(0).bytes(2**20) + b"\xff\xda" * 200
    assert_shows_the_image(jpeg(IMAGE, quality=95, comment=b"\xff\xda" * 150), 0.05)
    assert_shows_the_image(jpeg(IMAGE, quality=95) + noise, 0.05)


def test_jpeg_without_its_last_marker_is_read_and_a_cut_one_is_not() -> None:
    content = jpeg(IMAGE, quality=95)
    assert content.endswith(b"\xff\xd9")
    assert_shows_the_image(content[:-2], 0.05)
    for kept in (0.5, 0.8, 0.95):
        assert refused(content[: int(len(content) * kept)]) == "damaged"


@pytest.mark.parametrize(
    "values",
    [
        DEEP.astype(np.int16),
        DEEP.astype(np.int16) - 2000,
        DEEP.astype(np.int32) * 100 - 9,
        DEEP.astype(np.float32) / 4095,
    ],
    ids=["int16", "negative", "int32", "float"],
)
def test_signed_and_floating_point_tiff(values: Any) -> None:
    assert_shows_the_image(
        tiff(Image.fromarray(values.astype(np.int32) if values.dtype == np.int16 else values))
    )


def test_tiff_of_numbers_that_are_none_is_refused() -> None:
    broken = DEEP.astype(np.float32)
    broken[3, 3] = np.nan
    assert refused(tiff(Image.fromarray(broken))) == "damaged"


@pytest.mark.parametrize("thumbnail_first", [False, True])
def test_reduced_page_of_a_tiff_is_passed_over(thumbnail_first: bool) -> None:
    pages = [Image.fromarray(IMAGE), Image.fromarray(IMAGE[::2, ::2])]
    for page, reduced in zip(pages, (0, 1), strict=True):
        page.encoderinfo = {"tiffinfo": {254: reduced}}
    if thumbnail_first:
        pages.reverse()
    stream = io.BytesIO()
    first, second = pages
    kinds = [page.encoderinfo["tiffinfo"] for page in pages]
    second.encoderinfo = {"tiffinfo": kinds[1]}
    first.save(stream, "TIFF", save_all=True, append_images=[second], tiffinfo=kinds[0])
    assert_shows_the_image(stream.getvalue())


@pytest.mark.parametrize("pixels", [IMAGE, DEEP])
def test_jpeg_2000_file(pixels: made.Greys) -> None:
    assert_shows_the_image(encode(Image.fromarray(pixels), "JPEG2000"))
    dataset = dcmread(io.BytesIO(dicom(pixels, syntax=uid.JPEG2000Lossless)))
    codestream = dataset.PixelData[dataset.PixelData.index(b"\xff\x4f\xff\x51") :]
    assert_shows_the_image(codestream)


def test_bmp() -> None:
    assert_shows_the_image(encode(IMAGE, "BMP"))
