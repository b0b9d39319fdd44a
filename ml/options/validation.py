"""Options of validating a classifier on the images of a clinic."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from ml.option_fields import BASIC
from ml.options.common import OPTIONS_CONFIG
from ml.texts import msg


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class ValidationOptions:
    """What a clinic asks for."""

    sensitivity: float = Field(
        default=0.9,
        ge=0.5,
        le=0.999,
        description=msg("Sensitivity that thresholds are given for."),
        json_schema_extra=BASIC,
    )
    prevalence: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description=msg(
            "Share of the clinic's patients who have the disease, for predictive values."
        ),
        json_schema_extra=BASIC,
    )
