"""Small synthetic chest X-rays, and the files they may come in."""

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pillow_heif import register_heif_opener
from pydicom import Dataset, FileMetaDataset, dcmwrite, uid
from pydicom.encaps import encapsulate

Greys = NDArray[np.uint8 | np.uint16 | np.int16]


def synthetic_image(
    rng: np.random.Generator, height: int = 96, width: int = 80
) -> NDArray[np.uint8]:
    """A chest-like image: bright body, two dark lungs, ribs across them, noise. (H, W), 0..255."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    image = 150 + 40 * np.exp(-4 * x**2) + 25 * y
    for side in (-1, 1):
        lung = ((x - 0.42 * side) / 0.3) ** 2 + ((y + 0.05) / 0.65) ** 2 < 1
        image[lung] -= 90 + 15 * side * rng.random()
    image += 12 * (np.sin(14 * (y + 0.4 * x**2)) > 0.6)
    image += rng.normal(0, 3, image.shape)
    greys: NDArray[np.uint8] = np.clip(image, 0, 255).astype(np.uint8)
    return greys


def encode(picture: Image.Image | Greys, kind: str, **options: Any) -> bytes:
    """Encode a picture or a (H, W) array with Pillow."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(picture: Image.Image | Greys, **options: Any) -> bytes:
    """A PNG file."""
    return encode(picture, "PNG", **options)


def jpeg(picture: Image.Image | Greys, **options: Any) -> bytes:
    """A JPEG file."""
    return encode(picture, "JPEG", **options)


def tiff(picture: Image.Image | Greys, **options: Any) -> bytes:
    """A TIFF file."""
    return encode(picture, "TIFF", **options)


def heic(picture: Image.Image, *more: Image.Image, orientation: int = 1, **options: Any) -> bytes:
    """A HEIC file, with further pictures beside the first, and an orientation as phones note it."""
    register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    several = {"save_all": True, "append_images": more} if more else {}
    return encode(picture, "HEIF", quality=95, exif=exif.tobytes(), **several, **options)


def dicom_dataset(stored: Greys, *, bits: int | None = None, **elements: Any) -> Dataset:
    """The data set of a digital radiograph with these stored values, (H, W).

    Args:
        stored: the values as they stand in the file.
        bits: BitsStored, the whole pixel by default.
        elements: further elements by keyword, or others than the usual ones; None leaves one out.
    """
    allocated = 8 * stored.dtype.itemsize
    bits = bits or allocated
    dataset = Dataset()
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = uid.generate_uid(entropy_srcs=["image"])
    dataset.Modality = "DX"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = allocated
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    dataset["PixelData"].VR = "OW"
    with warnings.catch_warnings():
        # Some images are wrong on purpose.
        warnings.simplefilter("ignore")
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
    return dataset


def dicom(
    stored: Greys,
    *,
    syntax: uid.UID = uid.ExplicitVRLittleEndian,
    bits: int | None = None,
    **elements: Any,
) -> bytes:
    """A DICOM file with these stored values in a transfer syntax; see `dicom_dataset`."""
    return write_dicom(dicom_dataset(stored, bits=bits, **elements), stored, syntax)


def write_dicom(dataset: Dataset, stored: Greys | bytes, syntax: uid.UID) -> bytes:
    """Write a data set as a file, its pixels compressed as the transfer syntax asks.

    Args:
        dataset: from `dicom_dataset`.
        stored: the values to compress, or the codestream that they are compressed to.
        syntax: the transfer syntax.
    """
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    if isinstance(stored, bytes):
        _encapsulate(dataset, stored)
    elif syntax == uid.JPEGBaseline8Bit:
        _encapsulate(dataset, jpeg(stored, quality=98))
    elif syntax == uid.JPEGLosslessSV1:
        _encapsulate(dataset, lossless_jpeg(stored, dataset.BitsStored))
    elif syntax in (uid.RLELossless, uid.JPEG2000Lossless):
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
        dataset["PixelData"].VR = "OB" if stored.dtype.itemsize == 1 else "OW"
    dataset.file_meta.TransferSyntaxUID = syntax
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _encapsulate(dataset: Dataset, codestream: bytes) -> None:
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def lossless_jpeg(stored: Greys, precision: int, *, wrap: bool = False) -> bytes:
    """Lossless JPEG, process 14 with the left neighbour as prediction: (H, W) -> codestream.

    Every category of difference has the same code length, which makes files large and the
    encoder short; no installed library writes this kind.
    """
    height, width = stored.shape
    values = stored.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 2 ** (precision - 1)
    steps = values - predicted
    if wrap:
        half = 2 ** (precision - 1)
        steps = (steps + half) % (2 * half) - half
    bits = "".join(_difference_bits(int(step)) for step in steps.ravel())
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = bytes((precision,)) + height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"".join(
        (
            b"\xff\xd8\xff\xc3\0\x0b" + frame + b"\x01\x01\x11\0",
            b"\xff\xc4\0\x24\0" + bytes((0, 0, 0, 0, 17)) + bytes(11) + bytes(range(17)),
            b"\xff\xda\0\x08\x01\x01\0\x01\0\0" + scan + b"\xff\xd9",
        )
    )


def _difference_bits(step: int) -> str:
    category = abs(step).bit_length()
    code = f"{category:05b}"
    if category == 0:
        return code
    return code + f"{step if step > 0 else step + 2**category - 1:0{category}b}"
