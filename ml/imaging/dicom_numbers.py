"""Numbers of DICOM elements as files really hold them: wrong types, commas, empty values."""

from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from ml.imaging.types import Refusal, UnreadableImage

_LARGEST_REAL = 1e9


def refuse(what: str, code: Refusal = "damaged") -> UnreadableImage:
    """The error for a file that contradicts itself."""
    return UnreadableImage(f"The DICOM file {what}. Export the image again.", code)


def integer(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """An element that is one whole number.

    Raises:
        UnreadableImage: it is missing without a default, or something else.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        value = default
    if not isinstance(value, int):
        raise refuse(f"has no usable {keyword}")
    return int(value)


def level_number(dataset: Dataset, keyword: str, default: int | None = None) -> int | None:
    """A stored grey level, whatever type it was written with; None where there is none.

    Written as US for signed pixels, -30000 reads 35536: the caller compares levels by their bits.
    """
    value = dataset.get(keyword)
    if value is None or value == "" or value == b"":
        return default
    if isinstance(value, bytes):
        return int.from_bytes(value[:2], "little" if dataset.is_little_endian else "big")
    if not isinstance(value, int | float | str):
        value = value[0]
    return int(float(value))


def reals(dataset: Dataset, keyword: str) -> list[float | None]:
    """The values of a decimal element; None for each that is no number of a sensible size.

    Read from the bytes, so that decimal commas and empty values do no harm.
    """
    element = dataset.get_item(keyword)
    if isinstance(element, RawDataElement) and element.VR in (None, "DS", "IS", "UN", "LO", "SH"):
        text = (element.value or b"").decode("latin-1")
        return [_real(part) for part in text.split("\\")] if text.strip() else []
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    parts = value if not isinstance(value, int | float | str) else [value]
    return [_real(part) for part in parts]


def real(dataset: Dataset, keyword: str, default: float) -> float:
    """The first value of a decimal element.

    Raises:
        UnreadableImage: it is no number, or one that needs care for overflow.
    """
    values = reals(dataset, keyword)
    if not values:
        return default
    if values[0] is None:
        raise refuse(f"has no usable {keyword}")
    return values[0]


def _real(value: object) -> float | None:
    try:
        # A comma separates decimals; values are separated by backslashes.
        number = float(str(value).strip(" \0").replace(",", "."))
    except ValueError:
        return None
    # Written so that a value that is no number is refused as well.
    return number if abs(number) <= _LARGEST_REAL else None
