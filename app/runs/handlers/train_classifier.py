"""Train a classifier and register it as a model version."""

from pydantic import Field, JsonValue
from pydantic.dataclasses import dataclass

from app.registry.registration import register_classifier
from app.runs.handlers.base import (
    DATA_INPUT,
    Completion,
    Input,
    InputType,
    Preparation,
    RegisteredModel,
    RunType,
    StepCount,
    typed_options,
)
from ml.data.splits import Split
from ml.option_fields import BASIC
from ml.options.classifier import BUNDLE_FOLDER, ClassifierOptions


class RegisteredClassifier(RegisteredModel):
    """The classifier that a training has registered."""

    classifier: str


@dataclass(frozen=True)
class NamedClassifierOptions(ClassifierOptions):
    """Options of training a classifier, with the name of the version that results."""

    bundle_version: str = Field(
        default="",
        title="Version name",
        description="Name of the new model version; empty: date and run.",
        json_schema_extra=BASIC,
    )


class TrainClassifier(RunType):
    """Train a classifier and register it as a model version."""

    name = "train-classifier"
    title = "Train a classifier"
    measured_splits = (Split.VALIDATION, Split.TEST)
    summary = "Train a classifier, optionally with synthetic images, and register a new version."
    program = ("ml", "train", "classifier")
    inputs = (
        DATA_INPUT,
        Input(
            "synthetic",
            InputType.SYNTHETIC,
            "Synthetic images to train with as well.",
            required=False,
            many=True,
        ),
    )
    Options = NamedClassifierOptions
    steps = StepCount(field="epoch", total_option="epochs", seconds_per_row=True)

    def prepare(self, before: Preparation) -> dict[str, JsonValue]:
        """Name the version, alike at every attempt."""
        options = typed_options(NamedClassifierOptions, self, before.run)
        default = f"{before.run.created_at:%Y-%m-%d} {str(before.run.id)[:8]}"
        return {"bundle_version": options.bundle_version or default}

    def complete(self, done: Completion) -> RegisteredClassifier:
        """Register the exported bundle."""
        model = register_classifier(
            done.session,
            done.settings,
            done.folder / BUNDLE_FOLDER,
            run=done.run,
            by=done.run.requested_by,
        )
        return RegisteredClassifier(classifier=model.sha256, version=model.version)
