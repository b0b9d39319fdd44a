"""The run types by name; a further one is one class in `app.runs.handlers` and one entry here."""

from collections.abc import Collection

from app.runs.handlers.audit import AuditClassifier
from app.runs.handlers.base import RunType
from app.runs.handlers.compare import CompareClassifiers, CompareConditions
from app.runs.handlers.evaluate import EvaluateClassifier, EvaluateGan
from app.runs.handlers.import_data import ImportData
from app.runs.handlers.synthesize import Synthesize
from app.runs.handlers.train_classifier import TrainClassifier
from app.runs.handlers.train_gan import TrainGan
from app.runs.handlers.validate import ValidateClassifier
from app.runs.tables import RunLane

RUN_TYPES: dict[str, RunType] = {
    each.name: each
    for each in (
        TrainGan(),
        EvaluateGan(),
        Synthesize(),
        TrainClassifier(),
        EvaluateClassifier(),
        ValidateClassifier(),
        CompareClassifiers(),
        AuditClassifier(),
        CompareConditions(),
        ImportData(),
    )
}


def types_of(lanes: Collection[RunLane]) -> list[str]:
    """The names of the run types in some lanes."""
    return [name for name, each in RUN_TYPES.items() if each.lane in lanes]


def lane_of(run_type: str) -> RunLane:
    """The lane of a run type; the long one of a type that only another version has."""
    return RUN_TYPES[run_type].lane if run_type in RUN_TYPES else RunLane.LONG


def run_type_title(name: str) -> str:
    """The title of a run type; of one that only another version has, its name."""
    return RUN_TYPES[name].title if name in RUN_TYPES else name
