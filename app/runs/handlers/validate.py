"""Validate a classifier on the images of a clinic."""

from pydantic import ConfigDict, JsonValue
from sqlalchemy.orm import Session

from app.registry.tables import ModelVersion
from app.runs.handlers.base import Completion, Input, InputType, RunResult, RunType
from app.runs.handlers.evaluate import Estimate
from app.runs.tables import RunLane
from app.runs.work import Work, images_of
from ml.evaluation.local_validation import ValidationReport
from ml.json_model import JsonObject
from ml.options.validation import ValidationOptions
from ml.reporting.validation_report import VALIDATION
from ml.texts import msg


class ValidationResult(RunResult):
    """The main metrics, and the whole report for the page of validations."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    images: int
    answered: Estimate | None
    right: Estimate | None
    report: JsonObject


class ValidateClassifier(RunType):
    """Validate a classifier on local images."""

    name = "validate-classifier"
    title = msg("Validate a classifier locally")
    summary = msg(
        "Measure a classifier on a clinic's own images, and fit thresholds for the clinic."
    )
    program = ("ml", "validate")
    lane = RunLane.SHORT
    inputs = (
        Input("data", InputType.DATA, msg("The clinic's own images, with labels.")),
        Input("bundle", InputType.CLASSIFIER, msg("Classifier to validate.")),
        Input(
            "training_data",
            InputType.DATA,
            msg("Data set of the classifier's training, to compare the images with."),
            required=False,
            none=msg("The statistics that came with the classifier"),
        ),
    )
    Options = ValidationOptions
    uses_device = False

    def work(self, session: Session, options: JsonObject) -> Work | None:
        """The images of the clinic."""
        images = images_of(session, options)
        return Work("", images, 1, msg("%(count)s images", count=images)) if images else None

    def default_inputs(
        self, session: Session, options: JsonObject
    ) -> tuple[dict[str, JsonValue], dict[str, str]]:
        """The training data is what the classifier was trained on, where it is registered."""
        if options.get("training_data"):
            return {}, {}
        model = session.get(ModelVersion, str(options["bundle"]))
        known = model.data_sha256 if model else None
        return ({"training_data": known} if known else {}), {}

    def complete(self, done: Completion) -> ValidationResult:
        """Read the report."""
        report = ValidationReport.from_values(done.read_json(VALIDATION))
        given = report.labelled.estimated.as_json() if report.labelled else {}
        return ValidationResult.model_validate(
            {
                "images": report.images,
                "answered": given.get("answered"),
                "right": given.get("right"),
                "report": report.as_json(),
            }
        )
