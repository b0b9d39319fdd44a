"""Mutated files through the decoder of the server: only images, refusals and bounded time.

    python -m benchmarks.damaged_files [--files 10000]

Small images in many formats have bytes changed, overwritten, removed and repeated. Each has to
be an image or a refusal; any other outcome ends the run with a traceback.
"""

import argparse
import time
from collections import Counter

import numpy as np
from PIL import Image
from pydicom import uid
from rich.console import Console
from rich.progress import track

from app.screenings.decoder import ImageDecoder
from ml.imaging.types import UnreadableImage
from tests.support.images import dicom, encode, heic, jpeg, png, synthetic_image, tiff

SIZE = 64


def seeds(random: np.random.Generator) -> dict[str, bytes]:
    """One small valid file for each format."""
    image = synthetic_image(random, 96, 80)
    deep = image.astype(np.uint16) * 16
    return {
        "PNG": png(image),
        "PNG, 16 bits": png(deep),
        "JPEG": jpeg(image),
        "progressive JPEG": jpeg(image, progressive=True),
        "TIFF": tiff(image),
        "TIFF, LZW": tiff(image, compression="tiff_lzw"),
        "WebP": encode(image, "WEBP"),
        "BMP": encode(image, "BMP"),
        "JPEG 2000": encode(image, "JPEG2000"),
        "HEIC": heic(Image.fromarray(image)),
        "palette PNG": png(Image.fromarray(image).convert("P")),
        "opaque PNG": png(Image.fromarray(image).convert("RGBA")),
        "floating-point TIFF": tiff(image.astype(np.float32)),
        "DICOM": dicom(deep, bits=12),
        "DICOM, JPEG": dicom(image, syntax=uid.JPEGBaseline8Bit),
        "DICOM, JPEG Lossless": dicom(deep, bits=12, syntax=uid.JPEGLosslessSV1),
        "DICOM, JPEG 2000": dicom(deep, bits=12, syntax=uid.JPEG2000Lossless),
        "DICOM, RLE": dicom(deep, bits=12, syntax=uid.RLELossless),
        "DICOM, big endian": dicom(deep, bits=12, syntax=uid.ExplicitVRBigEndian),
        "DICOM, deflated": dicom(image, syntax=uid.DeflatedExplicitVRLittleEndian),
    }


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """A file with one to eight changes, half of them near its beginning, where headers are."""
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 9))):
        reach = min(len(changed), 300) if random.random() < 0.5 else len(changed)
        place = int(random.integers(0, max(1, reach)))
        length = int(random.integers(1, 17))
        match int(random.integers(0, 5)):
            case 0:
                changed[place : place + 1] = bytes([int(random.integers(0, 256))])
            case 1:
                changed[place : place + length] = b"\xff" * length
            case 2:
                changed[place : place + length] = b""
            case 3:
                changed[place:place] = changed[place : place + length]
            case _:
                changed[place:] = changed[place:][: int(random.integers(0, len(changed) + 1))]
    return bytes(changed)


def main() -> None:
    """Fuzz and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    random, console = np.random.default_rng(0), Console(width=100)
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    files = seeds(random)
    names = list(files)
    with ImageDecoder(workers=1) as decoder:
        for number in track(range(options.files), "decoding", console=Console(stderr=True)):
            content = mutated(files[names[number % len(names)]], random)
            begun = time.monotonic()
            try:
                decoder.decode(content, SIZE)
                outcomes["image"] += 1
            except UnreadableImage as refusal:
                outcomes[f"refused: {refusal.code}"] += 1
            slowest = max(slowest, time.monotonic() - begun)
    for outcome, count in outcomes.most_common():
        console.print(f"{outcome}: {count:,}")
    console.print(f"slowest file: {slowest:.2f} s")


if __name__ == "__main__":
    main()
