"""How much a run has to do, in units that take about the same time in runs of one kind."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue
from sqlalchemy.orm import Session

from app.datasets.tables import DataVersion
from app.registry.tables import ModelVersion
from ml.data.splits import Split

# Side of the images of a unit, in pixels: units of other sides count by their area.
SIDE = 64
# Training an image costs about three times as much as only looking at it.
TRAINED = 3


@dataclass(frozen=True, slots=True)
class Work:
    """How much a run has to do.

    Attributes:
        kind: runs of the same kind take about the same time for a unit.
        units: proportional to the time of its steps; above 0.
        steps: how many steps there are; 1 where the program counts none.
        text: the same for people: "20,000 steps at 64 px".
    """

    kind: str
    units: float
    steps: float
    text: str


def area(side: JsonValue) -> float:
    """The area of an image of that side, in units."""
    return (_number(side) / SIDE) ** 2


def _number(value: JsonValue) -> float:
    return float(value) if isinstance(value, int | float | str) else 0.0


def images_of(session: Session, options: Mapping[str, JsonValue], *splits: Split) -> int | None:
    """How many images the data set of a run has in some splits; in all, if none is named.

    Returns:
        None where the data set is a folder, or is not registered here.
    """
    version = session.get(DataVersion, str(options.get("data", "")))
    if version is None or not version.summary:
        return None
    by_split = version.contents.by_split
    wanted = splits or tuple(Split)
    return sum(sum(by_split.get(split, {}).values()) for split in wanted)


def generator_option(session: Session, sha256: JsonValue, name: str) -> JsonValue:
    """An option that a generator was trained with; None where it is not known."""
    model = session.get(ModelVersion, str(sha256 or ""))
    known = model.card.get("options") if model and model.card else None
    return known.get(name) if isinstance(known, dict) else None
