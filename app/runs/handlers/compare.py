"""Compare two classifiers, or the conditions of an ablation."""

import uuid

from sqlalchemy.orm import Session

from app.registry.comparisons import record_comparison
from app.runs.handlers.base import (
    DATA_INPUT,
    Completion,
    Input,
    InputType,
    RunResult,
    RunType,
    length_options,
    on_each_device,
    typed_values,
)
from app.runs.handlers.train_classifier import training_work
from app.runs.tables import RunLane
from app.runs.work import Work, images_of
from ml.data.splits import Split
from ml.json_model import JsonObject
from ml.options.classifier import AblationOptions
from ml.texts import msg

CONDITIONS = "conditions.json"
# Real images, with augmented copies, with synthetic images.
_CONDITIONS = 3


class ComparisonResult(RunResult):
    """A comparison that a run has recorded."""

    comparison: uuid.UUID
    candidate: str
    reference: str
    passed: bool
    faults: list[str]


class ConditionsResult(RunResult):
    """Whether synthetic images help, in sentences."""

    answer: list[str]


class CompareClassifiers(RunType):
    """Compare a classifier with another one, for the promotion checks."""

    name = "compare-classifiers"
    measured_splits = (Split.TEST,)
    title = msg("Compare two classifiers")
    summary = msg(
        "Measure a classifier and the active one on the same test images: promotion checks."
    )
    program = ("ml", "compare", "classifiers")
    lane = RunLane.SHORT
    inputs = (
        Input("data", InputType.DATA, msg("Images to measure on.")),
        Input("bundle", InputType.CLASSIFIER, msg("Candidate for activation.")),
        Input("reference", InputType.CLASSIFIER, msg("Classifier to compare it with.")),
    )
    uses_device = False

    def work(self, session: Session, options: JsonObject) -> Work | None:
        """The test images, seen by both."""
        images = images_of(session, options, Split.TEST)
        text = msg("2 classifiers on %(count)s images", count=images or 0)
        return Work("", 2 * images, 1, text) if images else None

    def validate(self, options: JsonObject) -> dict[str, str]:
        """A classifier is not compared with itself."""
        if options["bundle"] == options["reference"]:
            return {"reference": msg("Choose another classifier than the candidate.")}
        return {}

    def complete(self, done: Completion) -> ComparisonResult:
        """Record the comparison."""
        comparison = record_comparison(done.session, done.folder, run=done.run)
        return ComparisonResult(
            comparison=comparison.id,
            candidate=comparison.candidate_sha256,
            reference=comparison.reference_sha256,
            passed=comparison.passed,
            faults=comparison.faults,
        )


class CompareConditions(RunType):
    """Compare training with and without synthetic images."""

    name = "compare-conditions"
    measured_splits = (Split.VALIDATION, Split.TEST)
    title = msg("Compare training with and without synthetic data")
    summary = msg("Train on real images, with augmented copies and with synthetic images; compare.")
    program = ("ml", "compare", "conditions")
    inputs = (
        DATA_INPUT,
        Input("synthetic", InputType.SYNTHETIC, msg("Synthetic images."), many=True),
    )
    Options = AblationOptions
    lengths = on_each_device(
        length_options(
            trial={"seeds": 1, "epochs": 2, "small_epochs": 1},
            standard={"seeds": 3, "epochs": 12, "small_epochs": 4},
            long={"seeds": 5, "epochs": 24, "small_epochs": 6},
        )
    )

    def work(self, session: Session, options: JsonObject) -> Work | None:
        """The trainings of all conditions."""
        of = typed_values(AblationOptions, self, options)
        sites = len([site for site in of.leave_out.split(",") if site.strip()])
        return training_work(session, options, of, _CONDITIONS * of.seeds * (1 + sites))

    def complete(self, done: Completion) -> ConditionsResult:
        """Read the findings from the report."""
        return ConditionsResult.model_validate({"answer": done.read_json(CONDITIONS)["sentences"]})
