"""Options of auditing a classifier."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from ml.option_fields import BASIC
from ml.options.common import OPTIONS_CONFIG, RandomSeed
from ml.texts import msg


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class AuditOptions:
    """Which images an audit looks at."""

    per_site: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            title="Images per site",
            description=msg("Most test images of a site, drawn at random; 0 for all."),
            json_schema_extra=BASIC,
        ),
    ] = 200
    seed: RandomSeed = 0
