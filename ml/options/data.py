"""Options of making data set versions."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from ml.options.common import OPTIONS_CONFIG


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class DataPreparationOptions:
    """Options of making a data set version from images."""

    name: str = Field(default="", description="Name of the data set.")
    source: str = Field(
        default="", description="folders, dicom: name of the source; default: made from the name."
    )
    patient_pattern: str = Field(
        default="",
        description="folders: regular expression whose one group finds the patient in a path.",
    )
    short_side: int = Field(
        default=256, ge=0, description="Reduce the short side to this, in pixels; 0 keeps the size."
    )
    keep_duplicates: bool = Field(
        default=False, description="Also take near-duplicates that have the same label."
    )
