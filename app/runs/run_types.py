"""The run types by name; a further one is one class in `app.runs.handlers` and one entry here."""

from app.runs.handlers.audit import AuditClassifier
from app.runs.handlers.base import RunType
from app.runs.handlers.compare import CompareClassifiers, CompareConditions
from app.runs.handlers.evaluate import EvaluateClassifier, EvaluateGan
from app.runs.handlers.import_data import ImportData
from app.runs.handlers.synthesize import Synthesize
from app.runs.handlers.train_classifier import TrainClassifier
from app.runs.handlers.train_gan import TrainGan
from app.runs.handlers.validate import ValidateClassifier

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


def run_type_title(name: str) -> str:
    """The title of a run type; of one that only another version has, its name."""
    return RUN_TYPES[name].title if name in RUN_TYPES else name
