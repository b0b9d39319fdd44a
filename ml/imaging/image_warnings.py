"""What has to be said of an image that is predicted anyway: stable codes, and their sentences."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ml.texts import Text, msg

WarningCode = Literal[
    "inverted",
    "rotated",
    "no-frontal-chest",
    "for-processing",
    "grey-scale-unclear",
    "window-ignored",
    "not-an-x-ray-modality",
]
# Parameter of "inverted" and "rotated": the stored image is as it was sent, not corrected.
SHOWN_AS_SENT = "shown-as-sent"
_TEXTS: dict[str, str] = {
    "inverted": msg(
        "The image looked inverted, with dark bones. Its grey levels were inverted "
        "for the prediction and for display."
    ),
    "rotated": msg(
        "The image looked rotated. It was turned counter-clockwise by %(degrees)s "
        "degrees for the prediction and for display."
    ),
    "no-frontal-chest": msg(
        "The image does not look like a frontal chest X-ray. The prediction means "
        "nothing for other images."
    ),
    "for-processing": msg(
        "The DICOM file is marked FOR PROCESSING: raw detector values, not processed "
        "for display. The prediction may be wrong. Use the image FOR PRESENTATION."
    ),
    "grey-scale-unclear": msg(
        "The DICOM header contradicts itself about which grey levels are bright "
        "(%(photometric)s with the LUT shape %(shape)s). Check that bones are bright in "
        "the image."
    ),
    "window-ignored": msg(
        "The display window of the DICOM file cannot be used. The full range of grey "
        "levels is shown instead."
    ),
    "not-an-x-ray-modality": msg(
        "The DICOM modality %(modality)s does not say that this is an X-ray image. "
        "Check that it shows a chest X-ray."
    ),
}
_TEXTS_AS_SENT: dict[str, str] = {
    "inverted": msg(
        "The image looked inverted, with dark bones. Its grey levels were inverted "
        "for the prediction, but it is shown as it was sent."
    ),
    "rotated": msg(
        "The image looked rotated. It was turned upright for the prediction, but it "
        "is shown as it was sent."
    ),
}
_NAMES: dict[str, str] = {
    "inverted": msg("inverted grey levels"),
    "rotated": msg("rotated image"),
    "no-frontal-chest": msg("not a frontal chest X-ray?"),
    "for-processing": msg("raw detector values"),
    "grey-scale-unclear": msg("grey scale unclear"),
    "window-ignored": msg("display window ignored"),
    "not-an-x-ray-modality": msg("modality is not X-ray"),
}


@dataclass(frozen=True, slots=True)
class ImageWarning:
    """One warning.

    Attributes:
        code: never changes its meaning.
        parameters: values of this image, by name.
    """

    code: WarningCode
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The warning in sentences."""
        as_sent = SHOWN_AS_SENT in self.parameters and self.code in _TEXTS_AS_SENT
        template = (_TEXTS_AS_SENT if as_sent else _TEXTS)[self.code]
        names = re.findall(r"%\((\w+)\)s", template)
        values = {name: self.parameters.get(name, msg("unknown")) for name in names}
        return Text.of(template, "", values)

    @property
    def name(self) -> str:
        """The warning in a few words, for lists."""
        return _NAMES[self.code]

    def as_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {"code": self.code, "parameters": dict(self.parameters)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """As it was stored.

        Raises:
            ValueError: the code is unknown.
        """
        code = stored["code"]
        if code not in _TEXTS:
            raise ValueError(f"{code!r:.60} is not the code of a warning")
        return cls(code, dict(stored["parameters"]))


def read_warnings(stored: Sequence[Mapping[str, Any]]) -> list[ImageWarning]:
    """Warnings as they were stored."""
    return [ImageWarning.from_json(one) for one in stored]


def warning_columns(warnings: Sequence[ImageWarning]) -> tuple[str, str]:
    """The codes and the sentences of warnings, for the columns of a table."""
    codes = " ".join(warning.code for warning in warnings)
    return codes, " ".join(f"Warning: {warning.text}" for warning in warnings)
