"""Train a classifier and register it as a model version."""

from typing import ClassVar

from pydantic import Field, JsonValue
from pydantic.dataclasses import dataclass
from sqlalchemy.orm import Session

from app.registry.registration import register_classifier
from app.runs.handlers.base import (
    DATA_INPUT,
    Completion,
    Input,
    InputType,
    Lengths,
    Preparation,
    RegisteredModel,
    RunType,
    StepCount,
    length_options,
    typed_options,
    typed_values,
)
from app.runs.tables import RunQueue
from app.runs.work import TRAINED, Work, area, images_of
from ml.data.splits import Split
from ml.json_model import JsonObject
from ml.option_fields import BASIC
from ml.options.classifier import BUNDLE_FOLDER, ClassifierOptions
from ml.texts import msg


class RegisteredClassifier(RegisteredModel):
    """The classifier that a training has registered."""

    classifier: str


@dataclass(frozen=True)
class NamedClassifierOptions(ClassifierOptions):
    """Options of training a classifier, with the name of the version that results."""

    bundle_version: str = Field(
        default="",
        title=msg("Version name"),
        description=msg("Name of the new model version; empty: date and run."),
        json_schema_extra=BASIC,
    )


def training_work(
    session: Session, options: JsonObject, of: ClassifierOptions, trainings: int = 1
) -> Work | None:
    """The work of training classifiers: the images of all epochs, by their area.

    Args:
        session: the database, where the data set is registered.
        options: inputs and options of the run.
        of: the options of one training.
        trainings: how many there are.
    """
    learned = images_of(session, options, Split.TRAIN)
    looked_at = images_of(session, options, Split.VALIDATION)
    if not learned or looked_at is None:
        return None
    small = min(of.small_epochs, of.epochs)
    whole = _side_of(of.network)
    areas = small * area(of.small_size) + (of.epochs - small) * area(whole)
    units = TRAINED * learned * areas + looked_at * of.epochs * area(whole)
    return Work(
        kind=f"{of.network} {of.crop}",
        units=units * trainings,
        steps=of.epochs * trainings,
        text=msg(
            "%(trainings)s trainings of at most %(epochs)s epochs of %(count)s images",
            trainings=trainings,
            epochs=of.epochs,
            count=learned,
        )
        if trainings > 1
        else msg("at most %(epochs)s epochs of %(count)s images", epochs=of.epochs, count=learned),
    )


def _side_of(network: str) -> int:
    """The side of a network's images; of `ml.classifier.networks`, which imports torch."""
    return 256 if network == "report-cnn" else 224


class TrainClassifier(RunType):
    """Train a classifier and register it as a model version."""

    name = "train-classifier"
    title = msg("Train a classifier")
    measured_splits = (Split.VALIDATION, Split.TEST)
    summary = msg(
        "Train a classifier, optionally with synthetic images, and register a new version."
    )
    program = ("ml", "train", "classifier")
    inputs = (
        DATA_INPUT,
        Input(
            "synthetic",
            InputType.SYNTHETIC,
            msg("Synthetic images to train with as well."),
            required=False,
            many=True,
        ),
    )
    Options = NamedClassifierOptions
    steps = StepCount(field="epoch", total_option="epochs", seconds_per_row=True)
    finishes_early = True
    lengths: ClassVar[Lengths] = {
        RunQueue.CPU: length_options(
            trial={"epochs": 2, "small_epochs": 1},
            standard={"epochs": 12, "small_epochs": 4},
            long={"epochs": 24, "small_epochs": 6},
        ),
        RunQueue.GPU: length_options(
            trial={"epochs": 3, "small_epochs": 1},
            standard={"epochs": 12, "small_epochs": 4},
            long={"epochs": 40, "small_epochs": 8},
        ),
    }

    def work(self, session: Session, options: JsonObject) -> Work | None:
        """The images of all epochs, by their area."""
        return training_work(session, options, typed_values(NamedClassifierOptions, self, options))

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
