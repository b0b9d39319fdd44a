"""From stored DICOM values to grey levels: the grey pipeline of the standard, computed in a table.

Every stored value of 8 or 16 bits has one grey level, so the modality transform, the window, the
inversion and the padding are computed once for all values, and the pixels are looked up.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ml.imaging.dicom_layout import Layout
from ml.imaging.dicom_numbers import level_number, real, reals, refuse
from ml.imaging.grey_levels import levels_in, look_up
from ml.imaging.image_warnings import ImageWarning
from ml.imaging.types import Pixels, UnreadableImage
from ml.texts import msg

GREY_ELEMENTS = (
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
)
Reals = NDArray[np.float64]
_JUMP = 0.75


class UnusableTable(Exception):
    """A lookup table that is cut short, or has no sense."""


def render(index: Pixels, layout: Layout, dataset: Dataset) -> tuple[Pixels, list[ImageWarning]]:
    """Stored levels -> grey levels over the full range of uint16, bone bright; and warnings."""
    values = layout.values()
    padding = _padding(layout, dataset)
    shown = levels_in(index) & ~padding
    if not shown.any():
        raise UnreadableImage(
            msg("The image is blank: it is all padding. Export it again."), "blank"
        )
    _check_range(index, shown, layout)

    levels = _modality_transform(values, dataset)
    brightness, warnings = _display_transform(levels, shown, dataset)
    if layout.inverted:
        brightness = 1.0 - brightness
    if np.ptp(brightness[shown]) == 0:
        raise UnreadableImage(
            msg("The image is blank: its display window shows a single grey. Export it again."),
            "blank",
        )
    # Padding lies outside of the exposed field, which is looked at as black.
    brightness[padding] = 0.0

    # 16 bits also for an image of 8: stretched to 8 bits it would be rounded a second time.
    return look_up(np.rint(brightness * 65535.0).astype(np.uint16), index), warnings


def _padding(layout: Layout, dataset: Dataset) -> NDArray[np.bool_]:
    """Which levels are padding; its value may be written with another sign than the pixels."""
    first = level_number(dataset, "PixelPaddingValue")
    raw = layout.raw_values()
    if first is None:
        return np.zeros(raw.shape, np.bool_)
    last = level_number(dataset, "PixelPaddingRangeLimit", first)
    assert last is not None  # it has a default
    ends = sorted(float(raw[end % raw.size]) for end in (first, last))
    return (raw >= ends[0]) & (raw <= ends[1])


def _check_range(index: Pixels, shown: NDArray[np.bool_], layout: Layout) -> None:
    """Tell an overlay or junk above the stored bits from a header that claims too few bits.

    Where the bits above change from one pixel to the next, junk makes a jump of at least their
    unit. In a picture that really has these bits, most of such neighbours differ by little.
    """
    raw, values = layout.raw_values(), layout.values()
    if (raw[shown] == values[shown]).all():
        return
    above = (raw - values).astype(np.float32)[index]
    whole = raw.astype(np.float32)[index]
    steps = np.abs(np.diff(whole, axis=1))[np.diff(above, axis=1) != 0]
    if steps.size and np.median(steps) < _JUMP * 2.0**layout.stored:
        raise refuse(f"claims {layout.stored} bits a pixel, but its pixels have more")


def _modality_transform(values: Reals, dataset: Dataset) -> Reals:
    if dataset.get("ModalityLUTSequence"):
        try:
            return _table_transform(values, dataset, "ModalityLUTSequence")
        except UnusableTable as problem:
            raise refuse("has a ModalityLUTSequence that is cut short") from problem
    slope = real(dataset, "RescaleSlope", 1.0)
    if slope == 0:
        raise refuse("has a RescaleSlope of 0")
    return values * slope + real(dataset, "RescaleIntercept", 0.0)


def _display_transform(
    levels: Reals, shown: NDArray[np.bool_], dataset: Dataset
) -> tuple[Reals, list[ImageWarning]]:
    """Modality values -> brightness from 0 to 1, by the first usable window of the file."""
    warnings: list[ImageWarning] = []
    if dataset.get("VOILUTSequence"):
        try:
            levels = _table_transform(levels, dataset, "VOILUTSequence")
        except UnusableTable:
            warnings.append(ImageWarning("window-ignored"))
    else:
        window = _window(levels, dataset)
        if window is not None:
            return window, []
        if reals(dataset, "WindowCenter") and reals(dataset, "WindowWidth"):
            warnings.append(ImageWarning("window-ignored"))
    low, high = float(levels[shown].min()), float(levels[shown].max())
    return np.clip((levels - low) / ((high - low) or 1.0), 0.0, 1.0), warnings


def _window(levels: Reals, dataset: Dataset) -> Reals | None:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, scaled to 0 to 1; None without a usable window."""
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    shape = _WINDOWS.get(function)
    least = 1.0 if function == "LINEAR" else np.nextafter(0.0, 1.0)
    pairs = zip(reals(dataset, "WindowCenter"), reals(dataset, "WindowWidth"), strict=False)
    for center, width in pairs:
        if shape is not None and center is not None and width is not None and width >= least:
            return np.clip(shape(levels, center, width), 0.0, 1.0)
    return None


def _linear(levels: Reals, center: float, width: float) -> Reals:
    # A width of 1 is a threshold: half a level below the centre.
    return _linear_exact(levels, center - 0.5, max(width - 1.0, 1e-6))


def _linear_exact(levels: Reals, center: float, width: float) -> Reals:
    return (levels - center) / width + 0.5


def _sigmoid(levels: Reals, center: float, width: float) -> Reals:
    # The logistic function, written so that it cannot overflow.
    return 0.5 + 0.5 * np.tanh(2.0 * (levels - center) / width)


_WINDOWS: dict[str, Callable[[Reals, float, float], Reals]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}


def _table_transform(levels: Reals, dataset: Dataset, keyword: str) -> Reals:
    """Apply the first lookup table of a sequence; values outside get its first or last entry.

    pydicom's own functions wrap values around where table and pixels differ in depth.
    """
    try:
        item = dataset[keyword].value[0]
        entries, first, depth = (int(number) for number in item.LUTDescriptor)
        entries = entries or 2**16
        table = _table(item, dataset, entries, depth)[:entries]
    except (AttributeError, TypeError, ValueError, IndexError) as problem:
        raise UnusableTable from problem
    if levels.min() < 0 and first >= 2**15:
        # A first value below zero that was written or read as unsigned.
        first -= 2**16
    if table.size < entries or entries < 2:
        raise UnusableTable
    position = np.clip(np.rint(levels) - first, 0, entries - 1).astype(np.intp)
    transformed: Reals = table[position]
    return transformed


def _table(item: Dataset, dataset: Dataset, entries: int, depth: int) -> Reals:
    content = item.LUTData
    order = "<u2" if dataset.is_little_endian else ">u2"
    if not isinstance(content, bytes):
        words = np.asarray(content, dtype=np.uint16)
    else:
        words = np.frombuffer(content[: len(content) // 2 * 2], order).astype(np.uint16)
    if depth <= 8 and words.size < entries <= 2 * words.size:
        # Two entries of one byte in each word, the first in its low byte.
        return words.astype("<u2").view(np.uint8).astype(np.float64)
    return words.astype(np.float64)
