"""Options that several programs share."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ml.option_fields import BASIC
from ml.texts import msg

# JSON in PostgreSQL has no infinity.
OPTIONS_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
Precision = Literal["float32", "bfloat16"]
PrecisionOption = Annotated[
    Precision, Field(description=msg("bfloat16 is faster on hardware that supports it."))
]
RandomSeed = Annotated[
    int,
    Field(ge=0, title=msg("Random seed"), description=msg("Random seed."), json_schema_extra=BASIC),
]
WeightDecay = Annotated[float, Field(ge=0, description=msg("Weight decay of AdamW."))]


# A file of this name in a training's folder asks it to stop, and to keep its best result.
FINISH_EARLY = "finish-early"


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class NoOptions:
    """Options of a program that has none."""
