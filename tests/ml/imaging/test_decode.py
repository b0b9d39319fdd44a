import base64
import io
import struct
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin
from pydicom import Dataset, Sequence, uid
from pydicom.dataelem import RawDataElement
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.tag import Tag

from ml.data.manifest import read_manifest
from ml.imaging.decode import has_image_signature, read_image
from ml.imaging.dicom_header import metadata_of
from ml.imaging.display import display_image, thumbnail_image
from ml.imaging.preprocessing import standardise
from ml.imaging.types import MAX_PIXELS, Pixels, Radiograph, Refusal, UnreadableImage
from tests.support.images import (
    Greys,
    dicom,
    dicom_dataset,
    encode,
    jpeg,
    png,
    synthetic_image,
    tiff,
    write_dicom,
)

IMAGE = synthetic_image(np.random.default_rng(1), 96, 80)
DEEP = IMAGE.astype(np.uint16) * 16  # 12 bits in 16
SECRETS = ("MUSTERMANN", "ERIKA", "19391224", "4711-0815", "Sankt Nimmerlein", "10.99.88.77")

# A horizontal ramp of 64 x 64 pixels in steps of 64, 12 bits; no installed library writes JPEG-LS.
JPEG_LS_RAMP = zlib.decompress(
    base64.b64decode(
        "eNr7f+P/dwZuHgYHBgdGRkGG/7cYOBgZGYBg/v379+OA6F7s3Zg70bejbkXejLgRfj3sWujVkCvBl4MuBV4MuFD/"
        "9/vz/XF7fny8vz/vbtWXl5fn28XsLHzcyMShyOGkBASeKpOAaBUErBCI/18PhhUKUEb9g3YYiwNK/y/AItQPZdQp"
        "w+Q6YIxH9jBDiVI0H8qoGSSM/VBGFcypr2GM9TDvjEgl/28CAPVlzv8="
    )
)


def refusal(content: bytes) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        read_image(content)
    return caught.value


def grey_as(mode: str) -> Image.Image:
    return Image.fromarray(IMAGE).convert(mode)


def half_transparent() -> Image.Image:
    picture = grey_as("RGBA")
    picture.putalpha(128)
    return picture


def pixels_of(content: bytes) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(content)))


# --- what is no image ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"<!doctype html><title>image.png</title>", "an HTML or XML page"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a PDF"),
        (b"PK\x03\x04\x14\0", "a ZIP archive"),
        (b"\x1f\x8b\x08\0", "a gzip archive"),
        (b"the image is in the other folder", "text"),
        (encode(IMAGE, "GIF"), "a GIF"),
        (b"\0\0\0\x18ftypmp42", "a video file"),
        (bytes(range(256)), "an unknown kind of file"),
    ],
)
def test_other_kinds_of_files_are_named(content: bytes, name: str) -> None:
    problem = refusal(content)
    assert problem.code == "not-an-image"
    assert f"got {name}. Export the X-ray as an image." in str(problem)


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"avif"])
def test_photographs_of_phones_are_told_how_to_convert(
    brand: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the extra.
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    content = b"\0\0\0\x18ftyp" + brand + bytes(500)
    refused = refusal(content)
    assert "Convert the file to JPEG" in str(refused)
    assert refused.code == "not-an-image"
    assert has_image_signature(content)


def test_empty_file() -> None:
    assert refusal(b"").code == "empty"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize(
    "content",
    [
        png(IMAGE),
        jpeg(IMAGE),
        jpeg(IMAGE, progressive=True),
        tiff(IMAGE),
        tiff(IMAGE, compression="tiff_lzw"),
        encode(IMAGE, "WEBP"),
        dicom(IMAGE),
        dicom(DEEP, bits=12, syntax=uid.JPEG2000Lossless),
        dicom(DEEP, bits=12, syntax=uid.RLELossless),
        dicom(IMAGE, syntax=uid.DeflatedExplicitVRLittleEndian),
    ],
)
def test_truncated_file_is_damaged(content: bytes, share: float) -> None:
    # At least the 132 bytes by which a DICOM file is recognized.
    assert refusal(content[: max(140, int(share * len(content)))]).code == "damaged"


def png_of_size(width: int, height: int, *chunks: bytes, pixels: bytes = b"") -> bytes:
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(name: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(name + payload)
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", checksum)


@pytest.mark.parametrize("side", [7_072, 10_000, 60_000])
def test_over_50_megapixels_is_refused_on_the_header(side: int) -> None:
    assert side * side > MAX_PIXELS
    # The pixel data are no valid stream: decoding them would call the file damaged.
    assert refusal(png_of_size(side, side, pixels=b"nothing")).code == "too-large"


def test_compressed_text_bomb_beside_the_pixels_is_refused() -> None:
    bomb = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(2**27), 9))
    pixels = zlib.compress(bytes(101 * 100))
    assert refusal(png_of_size(100, 100, bomb, pixels=pixels)).code == "damaged"


def test_deflate_bomb_in_a_dicom_file_is_refused_before_it_inflates() -> None:
    image = dicom(IMAGE, syntax=uid.DeflatedExplicitVRLittleEndian)
    dataset_start = image.index(uid.DeflatedExplicitVRLittleEndian.encode()) + 22
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(deflater.compress(bytes(2**20)) for _ in range(200)) + deflater.flush()
    assert len(bomb) < 2**20
    assert refusal(image[:dataset_start] + bomb).code == "too-large"


@pytest.mark.parametrize(
    "content",
    [
        encode(IMAGE, "GIF", save_all=True, append_images=[Image.fromarray(255 - IMAGE)] * 3),
        png(IMAGE, save_all=True, append_images=[Image.fromarray(255 - IMAGE)]),
        encode(IMAGE, "WEBP", save_all=True, append_images=[Image.fromarray(255 - IMAGE)]),
        tiff(IMAGE, save_all=True, append_images=[Image.fromarray(255 - IMAGE)]),
        dicom(IMAGE, NumberOfFrames=2, PixelData=IMAGE.tobytes() * 2),
    ],
    ids=["gif", "apng", "webp", "tiff", "dicom"],
)
def test_several_frames_are_refused(content: bytes) -> None:
    assert refusal(content).code == "multi-frame"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (jpeg(grey_as("CMYK")), "CMYK"),
        (tiff(grey_as("CMYK")), "CMYK"),
        (encode(half_transparent(), "WEBP"), "alpha"),
        (png(IMAGE, transparency=int(IMAGE[0, 0])), "transparent"),
        (png(grey_as("P"), transparency=int(IMAGE[0, 0])), "transparent"),
        (png(grey_as("1")), "black and white"),
        (tiff(grey_as("LAB")), "LAB"),
    ],
)
def test_colour_models_without_a_single_grey(content: bytes, what: str) -> None:
    problem = refusal(content)
    assert problem.code == "unsupported-colour"
    assert what in str(problem)


def test_colourful_picture_is_no_image() -> None:
    picture = np.stack([IMAGE, np.roll(IMAGE, 30, axis=1), 255 - IMAGE], axis=2)
    for content in (png(picture), jpeg(picture), png(Image.fromarray(picture).quantize(64))):
        assert refusal(content).code == "not-a-radiograph"


def test_size_of_a_thumbnail() -> None:
    assert refusal(png(IMAGE[:63])).code == "too-small"
    assert read_image(png(IMAGE[:64])).height == 64


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_blank_image(grey: int) -> None:
    blank = np.full_like(IMAGE, grey)
    for content in (png(blank), jpeg(blank), dicom(blank)):
        assert refusal(content).code == "blank"


def test_refusal_survives_a_process_boundary() -> None:
    import pickle

    problem = pickle.loads(pickle.dumps(refusal(b"")))
    assert (problem.code, str(problem)) == ("empty", "The file is empty. Choose the image again.")


# --- images ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected", "kind", "bits"),
    [
        (png(IMAGE), IMAGE, "PNG", 8),
        (png(grey_as("RGB")), IMAGE, "PNG", 8),
        (png(grey_as("P")), IMAGE, "PNG", 8),
        (png(DEEP), DEEP, "PNG", 16),
        (tiff(IMAGE), IMAGE, "TIFF", 8),
        (tiff(IMAGE, compression="tiff_lzw"), IMAGE, "TIFF", 8),
        (tiff(grey_as("RGB")), IMAGE, "TIFF", 8),
        (tiff(DEEP), DEEP, "TIFF", 16),
        (tiff(Image.fromarray(DEEP.astype(">u2"))), DEEP, "TIFF", 16),
        (tiff(Image.fromarray(DEEP), tiffinfo={262: 0}), 65535 - DEEP, "TIFF", 16),
        (encode(IMAGE, "WEBP", lossless=True), IMAGE, "WebP", 8),
    ],
)
def test_lossless_images_keep_their_stored_values(
    content: bytes, expected: Greys, kind: str, bits: int
) -> None:
    image = read_image(content)
    assert (image.format, image.bits) == (kind, bits)
    assert (image.height, image.width) == IMAGE.shape
    assert image.pixels.dtype == expected.dtype
    np.testing.assert_array_equal(image.pixels, expected)


def test_tint_of_the_image_base_and_a_coloured_mark_are_let_through() -> None:
    tinted = np.stack([IMAGE // 8 * 7, IMAGE, IMAGE // 8 * 7 + 12], axis=2)
    tinted[:10, :10] = (255, 0, 0)
    image = read_image(png(tinted))
    assert np.abs(image.pixels[20:].astype(int) - IMAGE[20:]).mean() < 16


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_flag_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encode(IMAGE, kind, exif=exif, **options)
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image).convert("L")

    radiograph = read_image(content)
    assert (radiograph.width, radiograph.height) == upright.size
    np.testing.assert_array_equal(radiograph.pixels, np.asarray(upright))
    shown, _ = display_image(radiograph, content)
    with Image.open(io.BytesIO(shown)) as image:
        assert 0x0112 not in image.getexif()
        np.testing.assert_array_equal(np.asarray(image.convert("L")), np.asarray(upright))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_reduced_jpeg_gives_the_same_model_input(mode: str) -> None:
    large = Image.fromarray(synthetic_image(np.random.default_rng(2), 1200, 1024)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = jpeg(large, quality=92, exif=exif)

    image = read_image(content, shortest=256)
    assert (image.width, image.height) == (1200, 1024)
    assert image.pixels.shape == (256, 300)
    whole = standardise(read_image(content).pixels, 128).astype(int)
    assert np.abs(standardise(image.pixels, 128) - whole).mean() < 0.5
    # The viewer still gets all there is.
    shown, _ = display_image(image, content)
    assert pixels_of(shown).shape == (1024, 1200)


# --- DICOM -------------------------------------------------------------------------------------

FULL_WINDOW: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}
SYNTAXES = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEG2000Lossless,
    uid.JPEGLosslessSV1,
)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize(
    ("stored", "bits", "elements"),
    [
        (IMAGE, 8, {}),
        (255 - IMAGE, 8, {"PhotometricInterpretation": "MONOCHROME1"}),
        (DEEP, 12, FULL_WINDOW),
        (DEEP, 12, {}),
        (4095 - DEEP, 12, {"PhotometricInterpretation": "MONOCHROME1", **FULL_WINDOW}),
        (IMAGE.astype(np.uint16) * 257, 16, {}),
    ],
    ids=["8", "8 inverted", "12 windowed", "12", "12 inverted", "16"],
)
def test_dicom_twin_gives_the_model_input_of_the_8_bit_image(
    syntax: uid.UID, stored: Greys, bits: int, elements: dict[str, Any]
) -> None:
    image = read_image(dicom(stored, bits=bits, syntax=syntax, **elements))
    assert (image.format, image.bits) == ("DICOM", bits)
    assert image.pixels.dtype == np.uint16
    assert_same_model_input(image.pixels, IMAGE)


@pytest.mark.parametrize("content", [png(DEEP), tiff(DEEP), png(IMAGE.astype(np.uint16) * 257)])
def test_16_bit_twin_gives_the_model_input_of_the_8_bit_image(content: bytes) -> None:
    assert_same_model_input(read_image(content).pixels, IMAGE)


def assert_same_model_input(pixels: Pixels, twin: Pixels) -> None:
    difference = standardise(pixels, 64).astype(int) - standardise(twin, 64)
    assert np.abs(difference).max() <= 1
    assert np.abs(difference).mean() < 0.5


def test_signed_pixels_with_a_rescale() -> None:
    stored = DEEP.astype(np.int16) - 2048
    elements = {"RescaleSlope": 1, "RescaleIntercept": 2048, **FULL_WINDOW}
    for syntax in (uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless):
        image = read_image(dicom(stored, bits=12, syntax=syntax, **elements))
        assert_same_model_input(image.pixels, IMAGE)


def test_baseline_jpeg_in_dicom() -> None:
    image = read_image(dicom(IMAGE, syntax=uid.JPEGBaseline8Bit))
    assert np.abs(standardise(image.pixels, 64).astype(int) - standardise(IMAGE, 64)).mean() < 1


def test_jpeg_ls_in_dicom() -> None:
    ramp = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (64, 1))
    content = write_dicom(dicom_dataset(ramp, bits=12), JPEG_LS_RAMP, uid.JPEGLSLossless)
    np.testing.assert_allclose(read_image(content).pixels, ramp * (65535 / 4032), atol=0.51)


def test_dicom_without_its_preamble() -> None:
    content = dicom(IMAGE)
    np.testing.assert_array_equal(read_image(content[132:]).pixels, read_image(content).pixels)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (1500.5, 1200), (2000, 1), (-9, 9000)])
@pytest.mark.parametrize("rescale", [(1, 0), (0.5, -300), (-1, 4095)])
def test_window_agrees_with_pydicom(
    function: str, center: float, width: float, rescale: tuple[float, float]
) -> None:
    dataset = dicom_dataset(
        DEEP,
        bits=12,
        VOILUTFunction=function,
        WindowCenter=center,
        WindowWidth=width,
        RescaleSlope=rescale[0],
        RescaleIntercept=rescale[1],
    )
    with np.errstate(over="ignore"):
        expected = apply_voi_lut(apply_modality_lut(DEEP, dataset), dataset)
    limits = sorted(level * rescale[0] + rescale[1] for level in (0, 4095))
    if rescale[0] < 0:
        # pydicom calls the larger limit the minimum there, and so inverts the window.
        expected = sum(limits) - expected
    brightness = (expected - limits[0]) / (limits[1] - limits[0])
    content = write_dicom(dataset, DEEP, uid.ExplicitVRLittleEndian)
    if np.ptp(brightness) == 0:
        assert refusal(content).code == "blank"
    else:
        np.testing.assert_allclose(read_image(content).pixels, brightness * 65535, atol=0.51)


def test_first_of_several_windows_counts() -> None:
    first = dicom(DEEP, bits=12, WindowCenter=1000, WindowWidth=500)
    both = dicom(DEEP, bits=12, WindowCenter=[1000, 3000], WindowWidth=[500, 80])
    np.testing.assert_array_equal(read_image(both).pixels, read_image(first).pixels)


def lut(table: NDArray[Any], first: int) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [table.size, first, 16]
    item.LUTData = table.astype("<u2").tobytes()
    item["LUTDescriptor"].VR = "US"
    item["LUTData"].VR = "OW"
    return Sequence([item])


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_lookup_table_is_applied_and_holds_beyond_its_ends(keyword: str, syntax: uid.UID) -> None:
    table = np.sqrt(np.arange(2000)) * 900
    elements: dict[str, Any] = {keyword: lut(table, 800)}
    content = dicom(DEEP, bits=12, syntax=syntax, **elements)
    expected = table.astype(np.uint16)[np.clip(DEEP.astype(int) - 800, 0, 1999)].astype(float)
    expected = (expected - expected.min()) / np.ptp(expected) * 65535
    np.testing.assert_allclose(read_image(content).pixels, expected, atol=0.51)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_takes_no_part_in_the_range(photometric: str) -> None:
    padded = DEEP.copy()
    padded[:8] = 4095
    image = read_image(
        dicom(padded, bits=12, PixelPaddingValue=4095, PhotometricInterpretation=photometric)
    )
    assert (image.pixels[:8] == 0).all()
    assert (image.pixels[8:].min(), image.pixels[8:].max()) == (0, 65535)


@pytest.mark.parametrize("modality", ["CT", "MR", "US", "MG", "JO HN"])
def test_other_modality_is_no_image(modality: str) -> None:
    problem = refusal(dicom(IMAGE, Modality=modality))
    assert problem.code == "not-a-radiograph"
    assert (modality in str(problem)) is (" " not in modality)


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({"Rows": 97}, "damaged"),
        ({"Rows": 95}, "damaged"),
        ({"Columns": 70}, "damaged"),
        ({"Rows": 65535, "Columns": 65535}, "too-large"),
        ({"Rows": 0}, "too-small"),
        ({"Rows": None}, "damaged"),
        ({"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}, "damaged"),
        ({"BitsAllocated": 32}, "unsupported-encoding"),
        ({"BitsStored": 12, "HighBit": 11}, "damaged"),
        ({"BitsStored": 7, "HighBit": 6}, "damaged"),
        ({"HighBit": 3}, "unsupported-encoding"),
        ({"BitsAllocated": None}, "damaged"),
        ({"SamplesPerPixel": 3}, "unsupported-colour"),
        ({"PhotometricInterpretation": "YBR_FULL_422"}, "unsupported-colour"),
        ({"PhotometricInterpretation": None}, "unsupported-colour"),
        ({"NumberOfFrames": 9}, "multi-frame"),
        (
            {"PixelData": None, "Rows": None, "SOPClassUID": uid.EncapsulatedPDFStorage},
            "not-an-image",
        ),
        ({"PixelData": None}, "damaged"),
        ({"WindowCenter": 9999, "WindowWidth": 10}, "blank"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "damaged"),
        ({"RescaleSlope": float("nan"), "RescaleIntercept": 0}, "damaged"),
        ({"RescaleSlope": 1, "RescaleIntercept": float("inf")}, "damaged"),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 255}, "blank"),
    ],
)
def test_lying_dicom_header(elements: dict[str, Any], code: Refusal) -> None:
    assert refusal(dicom(IMAGE, **elements)).code == code


@pytest.mark.parametrize(
    "syntax", [uid.JPEG2000Lossless, uid.JPEGLosslessSV1, uid.JPEGBaseline8Bit, uid.RLELossless]
)
def test_compressed_pixels_of_another_size_than_the_header_says(syntax: uid.UID) -> None:
    content = dicom(IMAGE, syntax=syntax)
    rows = struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 96)
    assert rows in content
    assert refusal(content.replace(rows, rows[:-2] + struct.pack("<H", 90))).code == "damaged"


def test_unknown_transfer_syntax_is_refused_without_repeating_it() -> None:
    problem = refusal(dicom(IMAGE).replace(b"1.2.840.10008.1.2.1\0", b"1.2.MUSTERMANN.5.6\0\0"))
    assert problem.code == "unsupported-encoding"
    assert "MUSTERMANN" not in str(problem)
    video = refusal(write_dicom(dicom_dataset(IMAGE), b"frames", uid.MPEG2MPML))
    assert video.code == "unsupported-encoding"
    assert "encoded as MPEG2" in str(video)


def personal_dicom() -> bytes:
    elements: dict[str, Any] = {
        "PatientName": "MUSTERMANN^ERIKA",
        "PatientID": "4711-0815",
        "PatientBirthDate": "19391224",
        "StudyDate": "19391224",
        "InstitutionName": "Sankt Nimmerlein",
        "ReferringPhysicianName": "MUSTERMANN",
        "StationName": "10.99.88.77",
        "PatientComments": "ERIKA",
        "PatientAge": "091Y",
        "PatientSex": "F",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PixelSpacing": [0.143, 0.143],
        "ImagerPixelSpacing": ["0.2", "0.2"],
        "Manufacturer": "Nimmerlein 4711-0815",
    }
    return dicom(DEEP, bits=12, **elements)


def test_metadata_of_dicom_is_an_allow_list() -> None:
    content = personal_dicom()
    image = read_image(content)
    assert image.metadata == {
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientSex": "F",
        "PatientAge": "090Y+",
        "PixelSpacing": r"0.143\0.143",
        "ImagerPixelSpacing": r"0.2\0.2",
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": "16",
        "BitsStored": "12",
        "HighBit": "11",
    }
    assert_free_of_secrets(image, content)


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("PatientAge", "089Y", True),
        ("PatientAge", "012M", False),
        ("PatientSex", "ERIKA", False),
        ("KVP", "120.5", True),
        ("DeviationIndex", "-1.2", True),
        ("Grid", ["RECIPROCATING", "PARALLEL"], True),
        ("Grid", "ERIKA", False),
        ("DetectorType", "SCINTILLATOR 4711", False),
        ("ViewPosition", "PA 4711-0815", False),
        ("BodyPartExamined", "chest\n", False),
    ],
)
def test_metadata_of_another_form_is_dropped(keyword: str, value: object, kept: bool) -> None:
    elements: dict[str, Any] = {keyword: value}
    assert (keyword in read_image(dicom(IMAGE, **elements)).metadata) is kept


@pytest.mark.filterwarnings("ignore::UserWarning")  # as in `read_image`
@pytest.mark.parametrize("raw", [b"ERIKA ", b"1e999", b""])
def test_number_that_is_none_is_dropped(raw: bytes) -> None:
    dataset = Dataset()
    tag = Tag("Exposure")
    dataset[tag] = RawDataElement(tag, "IS", len(raw), raw, 0, False, True)
    dataset.Modality = "DX"
    assert metadata_of(dataset) == {"Modality": "DX"}


# --- what is shown -----------------------------------------------------------------------------


def with_secrets(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The picture with every kind of metadata that its container can carry."""
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x9286] = SECRETS[0], SECRETS[1], SECRETS[2]
    if kind == "JPEG":
        xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRETS[3]}</x:xmpmeta>".encode()
        options |= {"comment": SECRETS[4], "xmp": xmp}
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("Patient", SECRETS[3])
        info.add_text("Comment", SECRETS[4], zip=True)
        info.add_itxt("Author", SECRETS[0], zip=False)
        options["pnginfo"] = info
    content = encode(picture, kind, exif=exif, icc_profile=SECRETS[5].encode() * 40, **options)
    return content + SECRETS[1].encode()


@pytest.mark.parametrize(
    "content",
    [
        with_secrets(grey_as("L"), "JPEG"),
        with_secrets(grey_as("L"), "JPEG", progressive=True, optimize=True),
        with_secrets(grey_as("L"), "JPEG", restart_marker_blocks=2, quality=100),
        with_secrets(grey_as("RGB"), "JPEG"),
        with_secrets(grey_as("RGB"), "JPEG", progressive=True, subsampling=0),
        with_secrets(grey_as("RGB"), "JPEG", keep_rgb=True),
        with_secrets(grey_as("L"), "PNG"),
        with_secrets(grey_as("RGB"), "PNG"),
        with_secrets(grey_as("P"), "PNG"),
    ],
)
def test_upright_jpeg_and_png_are_stripped_without_a_change_of_pixels(content: bytes) -> None:
    assert any(secret.encode() in content for secret in SECRETS)
    image = read_image(content)
    shown, media_type = display_image(image, content)
    assert media_type == f"image/{image.format.lower()}"
    assert len(shown) < len(content)
    with Image.open(io.BytesIO(content)) as source, Image.open(io.BytesIO(shown)) as stripped:
        assert (stripped.format, stripped.mode) == (source.format, source.mode)
        np.testing.assert_array_equal(
            np.asarray(stripped.convert("RGB")), np.asarray(source.convert("RGB"))
        )
        assert set(stripped.info) <= {
            "jfif",
            "jfif_version",
            "jfif_unit",
            "jfif_density",
            "adobe",
            "adobe_transform",
            "progressive",
            "progression",
        }
    assert_free_of_secrets(image, content)


@pytest.mark.parametrize(
    "content",
    [
        with_secrets(grey_as("L"), "TIFF"),
        with_secrets(grey_as("L"), "WEBP"),
        with_secrets(Image.fromarray(DEEP), "PNG"),
        personal_dicom(),
    ],
    ids=["tiff", "webp", "16-bit png", "dicom"],
)
def test_anything_else_is_shown_as_an_8_bit_png(content: bytes) -> None:
    radiograph = read_image(content)
    shown, media_type = display_image(radiograph, content)
    with Image.open(io.BytesIO(shown)) as image:
        assert (media_type, image.format, image.mode) == ("image/png", "PNG", "L")
        assert image.info == {}
        pixels = np.asarray(image)
    assert (pixels.min(), pixels.max()) == (0, 255) or radiograph.bits == 8
    assert np.corrcoef(pixels.ravel(), radiograph.pixels.ravel())[0, 1] > 0.999
    assert_free_of_secrets(radiograph, content)


def assert_free_of_secrets(image: Radiograph, content: bytes) -> None:
    shown, _ = display_image(image, content)
    for secret in SECRETS:
        assert secret.encode() not in shown + thumbnail_image(image)
        assert secret not in str(image.metadata)


@pytest.mark.parametrize("shape", [(96, 80), (700, 1400), (1400, 300), (64, 9000)])
def test_thumbnail_is_a_small_jpeg_of_the_whole_image(shape: tuple[int, int]) -> None:
    image = synthetic_image(np.random.default_rng(3), *shape)
    for content in (png(image), png(image.astype(np.uint16) * 16)):
        with Image.open(io.BytesIO(thumbnail_image(read_image(content)))) as small:
            assert (small.format, small.mode) == ("JPEG", "L")
            assert max(small.size) == min(256, max(shape))
            greys = np.asarray(small).ravel()
            whole = np.asarray(Image.fromarray(image).resize(small.size)).ravel()
        assert np.corrcoef(greys, whole)[0, 1] > 0.95


def test_jpeg_that_browsers_cannot_show_becomes_a_png() -> None:
    # An arithmetic-coded frame: the header is enough to see it.
    frame = b"\xff\xd8\xff\xc9\0\x0b\x08\0\x60\0\x50\x01\x01\x11\0\xff\xd9"
    image = read_image(jpeg(IMAGE))
    shown, media_type = display_image(image, frame)
    assert media_type == "image/png"
    np.testing.assert_array_equal(pixels_of(shown), image.pixels)


# --- damage --------------------------------------------------------------------------------------

VALID = {
    "png": png(IMAGE),
    "16-bit png": png(DEEP),
    "jpeg": jpeg(IMAGE),
    "rgb jpeg": jpeg(grey_as("RGB"), progressive=True),
    "tiff": tiff(IMAGE),
    "lzw tiff": tiff(IMAGE, compression="tiff_lzw"),
    "webp": encode(IMAGE, "WEBP"),
    "dicom": dicom(DEEP, bits=12, **FULL_WINDOW),
    "implicit dicom": dicom(IMAGE, syntax=uid.ImplicitVRLittleEndian),
    "deflated dicom": dicom(DEEP, bits=12, syntax=uid.DeflatedExplicitVRLittleEndian),
}


@given(
    kind=st.sampled_from(sorted(VALID)),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    early=st.booleans(),
    kept=st.floats(0, 1) | st.just(1.0),
)
@example(kind="dicom", flips=[], early=False, kept=0.0)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
def test_damaged_file_is_a_image_or_a_refusal(
    kind: str, flips: list[tuple[int, int]], early: bool, kept: float
) -> None:
    content = bytearray(VALID[kind])
    reach = min(len(content), 800) if early else len(content)
    for position, value in flips:
        content[position % reach] = value
    damaged = bytes(content[: round(kept * len(content))])
    with suppress(UnreadableImage):
        display_image(read_image(damaged), damaged)


@given(content=st.binary(max_size=400), start=st.sampled_from(sorted(VALID)))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_garbage_after_a_valid_start_is_refused(content: bytes, start: str) -> None:
    with pytest.raises(UnreadableImage):
        read_image(VALID[start][:140] + content)


def test_real_images_are_read(data_folder: Path) -> None:
    records = read_manifest(data_folder)
    started = time.perf_counter()
    for record in records[:: max(1, len(records) // 100)]:
        content = record.path.read_bytes()
        image = read_image(content, shortest=448)
        shown, _ = display_image(image, content)
        assert pixels_of(shown).shape[:2] == (image.height, image.width)
        if time.perf_counter() - started > 10:
            break
