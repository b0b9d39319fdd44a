"""Stored values of DICOM files beside those of GDCM, another library in another language.

    pip install --target /tmp/gdcm --no-deps python-gdcm
    PYTHONPATH=/tmp/gdcm python -m benchmarks.second_decoder FOLDER...

Files of every transfer syntax that the tests write, those that pydicom ships for its own tests, and
those of the folders. Compared are the grey levels as they are stored, before any display window,
of files that both read; of the others it is counted who refuses them.
"""

import argparse
import importlib
import io
import multiprocessing
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pydicom
from pydicom import uid
from rich.console import Console
from rich.table import Table

from ml.imaging.dicom_layout import read_layout
from ml.imaging.dicom_pixels import decode_levels
from ml.imaging.types import Pixels
from tests.support.images import dicom, synthetic_image

_SYNTAXES = (
    *(uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian),
    *(uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless),
)

# By the bits that a sample takes.
_KINDS = {8: np.dtype(np.uint8), 16: np.dtype("<u2")}


def written() -> Iterator[tuple[str, bytes]]:
    """Files of ours: (name, content)."""
    image = synthetic_image(np.random.default_rng(0), 320, 288)
    deep = image.astype(np.uint16) * 16 + np.arange(288, dtype=np.uint16) % 16
    for syntax in _SYNTAXES:
        yield "written, 8 bits", dicom(image, syntax=syntax)
        yield "written, 12 bits", dicom(deep, bits=12, syntax=syntax)
    yield "written, 8 bits", dicom(image, syntax=uid.JPEGBaseline8Bit)
    yield "written, 12 bits", dicom(deep, bits=12, syntax=uid.JPEGLosslessSV1)


@dataclass(frozen=True, slots=True)
class Levels:
    """What a library makes of a file.

    Attributes:
        values: (H, W), with whatever lies above the stored bits.
        stored: bits that are grey level.
    """

    values: Pixels
    stored: int

    def lowest(self, bits: int) -> Pixels:
        """The values without what lies above some bits."""
        return self.values & self.values.dtype.type(2**bits - 1)


def ours(content: bytes) -> Levels | None:
    """The grey levels of one picture; None where it is refused or in colour."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        # The files that pydicom ships are small.
        with patch("ml.imaging.dicom_layout.check_size"):
            layout = read_layout(dataset)
        if layout.colour:
            return None
        values, layout = decode_levels(dataset, layout)
    except Exception:  # whatever decoders raise
        return None
    return Levels(values, layout.stored)


def theirs(content: bytes) -> Levels | None:
    """The same by GDCM, in a child process, which some files end."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_send_theirs, args=(content, sending))
    child.start()
    sending.close()
    try:
        found: Levels | None = receiving.recv()
    except EOFError:
        found = None
    child.join()
    return found


def _send_theirs(content: bytes, sending: Connection) -> None:
    gdcm = importlib.import_module("gdcm")
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(content)
        file.flush()
        reader = gdcm.ImageReader()
        reader.SetFileName(file.name)
        sending.send(_levels(reader.GetImage()) if reader.Read() else None)


def _levels(image: Any) -> Levels | None:
    """One grey picture that GDCM has read."""
    pixel, text = image.GetPixelFormat(), image.GetBuffer()
    bits, dimensions = pixel.GetBitsAllocated(), image.GetNumberOfDimensions()
    if text is None or bits not in _KINDS or (pixel.GetSamplesPerPixel(), dimensions) != (1, 2):
        return None
    buffer = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    values = np.frombuffer(buffer, _KINDS[bits])
    shape = image.GetDimension(1), image.GetDimension(0)
    return Levels(values.reshape(shape), int(pixel.GetBitsStored()))


def compare(own: Levels | None, other: Levels | None) -> tuple[str, str]:
    """The outcome, and how the values differ."""
    if own is None or other is None:
        return ("neither" if own is other else "only GDCM" if own is None else "only ours"), ""
    if own.values.shape != other.values.shape:
        return "different", "another size"
    bits = min(own.stored, other.stored)
    first, second = own.lowest(bits), other.lowest(bits)
    if np.array_equal(first, second):
        return "equal", ""
    most = np.abs(first.astype(int) - second).max()
    return "different", f"{np.mean(first != second):.2%} of the values, by {most} at most"


def files_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The DICOM files below a folder: (name, content)."""
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if content[128:132] == b"DICM":
            yield path.name, content


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="*")
    options = parser.parse_args()
    shipped = Path(pydicom.__file__).parent / "data" / "test_files"
    found: dict[str, Counter[str]] = defaultdict(Counter)
    console = Console(width=110)
    sources = (written(), *(files_in(folder) for folder in (shipped, *options.folder)))
    for name, content in chain(*sources):
        outcome, what = compare(ours(content), theirs(content))
        meta = pydicom.dcmread(io.BytesIO(content), force=True).file_meta
        syntax = uid.UID(str(meta.get("TransferSyntaxUID", ""))).name
        found[syntax][outcome] += 1
        if outcome not in ("equal", "neither"):
            console.print(f"{name}, {syntax}: {outcome} {what}")
    columns = ("equal", "different", "only ours", "only GDCM", "neither")
    table = Table("transfer syntax", *columns)
    for syntax, counts in sorted(found.items()):
        table.add_row(syntax, *(str(counts[each]) for each in columns))
    console.print(table)


if __name__ == "__main__":
    main()
