"""What a DICOM header says of the stored pixels, checked for sense."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ml.imaging.dicom_numbers import integer, refuse
from ml.imaging.types import UnreadableImage, check_size
from ml.texts import msg

LAYOUT_ELEMENTS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = {
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
    "PALETTE COLOR": 1,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """The stored pixels.

    Attributes:
        rows: of the picture.
        columns: of the picture.
        allocated: bits that a sample takes, 8 or 16.
        stored: its lowest bits that are grey level, the others are not.
        signed: two's complement.
        inverted: a high value is dark.
        samples: a pixel, 3 for a colour picture.
        colour: the colour model of a captured picture; empty for grey levels.
    """

    rows: int
    columns: int
    allocated: int
    stored: int
    signed: bool
    inverted: bool
    samples: int = 1
    colour: str = ""

    def raw_values(self) -> NDArray[np.float64]:
        """The number of each level with all its bits, (2 ** allocated,)."""
        return self._values(self.allocated)

    def values(self) -> NDArray[np.float64]:
        """The number of each level by its stored bits alone, (2 ** allocated,)."""
        return self._values(self.stored)

    def _values(self, bits: int) -> NDArray[np.float64]:
        values: NDArray[np.float64] = np.arange(2**self.allocated) % 2**bits * 1.0
        if self.signed:
            values[values >= 2 ** (bits - 1)] -= 2**bits
        return values


def read_layout(dataset: Dataset) -> Layout:
    """Read the elements of a header that describe its pixels.

    Raises:
        UnreadableImage: they contradict each other, or describe something that is not read.
    """
    photometric = str(dataset.get("PhotometricInterpretation") or "").upper()
    samples = integer(dataset, "SamplesPerPixel", _COLOUR.get(photometric, 1))
    if samples != (1 if photometric in _GREY else _COLOUR.get(photometric, 0)):
        raise UnreadableImage(
            msg(
                "The DICOM file is neither monochrome nor in a known colour model. Export "
                "the image in greyscale, 8 or 16 bits."
            ),
            "unsupported-colour",
        )
    layout = Layout(
        rows=integer(dataset, "Rows"),
        columns=integer(dataset, "Columns"),
        allocated=integer(dataset, "BitsAllocated"),
        stored=integer(dataset, "BitsStored", integer(dataset, "BitsAllocated")),
        signed=integer(dataset, "PixelRepresentation", 0) == 1,
        inverted=photometric == "MONOCHROME1",
        samples=samples,
        colour="" if photometric in _GREY else photometric,
    )
    check_size(layout.columns, layout.rows)
    if layout.allocated not in (8, 16) or (samples == 3 and layout.allocated != 8):
        raise refuse(f"has {layout.allocated} bits a sample", "unsupported-encoding")
    if not 1 <= layout.stored <= layout.allocated:
        raise refuse(f"claims {layout.stored} bits in pixels of {layout.allocated}")
    if integer(dataset, "HighBit", layout.stored - 1) != layout.stored - 1:
        raise refuse("has its grey levels in unusual bits", "unsupported-encoding")
    return layout
