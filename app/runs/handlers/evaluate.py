"""Evaluate a classifier or a generator on a data set."""

from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from app.runs.handlers.base import (
    Completion,
    Input,
    InputType,
    RunResult,
    RunType,
    length_options,
    on_each_device,
    typed_values,
)
from app.runs.tables import RunLane
from app.runs.work import Work, images_of
from ml.data.splits import Split
from ml.json_model import JsonObject
from ml.options.classifier import ClassifierEvaluationOptions
from ml.options.gan import GanEvaluationOptions
from ml.texts import msg

METRICS = "metrics.json"


class Estimate(BaseModel):
    """A metric with its confidence interval."""

    model_config = ConfigDict(frozen=True, extra="allow")

    value: float | None
    low: float | None = None
    high: float | None = None


class ClassifierEvaluationResult(RunResult):
    """The main metrics of a classifier."""

    images: int
    accuracy: Estimate
    macro_auroc: Estimate


class GeneratorEvaluationResult(RunResult):
    """The main metrics of a generator; the KID of each feature space is a field `kid_SPACE`."""

    samples: int
    diversity: float | Estimate | None
    exact_copies: int | Estimate | None
    near_copies: int | Estimate | None


class EvaluateClassifier(RunType):
    """Evaluate a classifier on the test split."""

    name = "evaluate-classifier"
    measured_splits = (Split.TEST,)
    title = msg("Evaluate a classifier")
    summary = msg("Evaluate a classifier on the test split and write a report.")
    program = ("ml", "evaluate", "classifier")
    lane = RunLane.SHORT
    inputs = (
        Input("data", InputType.DATA, msg("Images to evaluate on.")),
        Input("bundle", InputType.CLASSIFIER, msg("Classifier to evaluate.")),
    )
    Options = ClassifierEvaluationOptions
    uses_device = False

    def work(self, session: Session, options: JsonObject) -> Work | None:
        """The test images."""
        images = images_of(session, options, Split.TEST)
        return Work("", images, 1, msg("%(count)s images", count=images)) if images else None

    def complete(self, done: Completion) -> ClassifierEvaluationResult:
        """Read the main metrics from the report."""
        metrics = _object(done.read_json(METRICS), "metrics")
        names = ClassifierEvaluationResult.model_fields
        return ClassifierEvaluationResult.model_validate({name: metrics[name] for name in names})


class EvaluateGan(RunType):
    """Evaluate a generator against the test split."""

    name = "evaluate-gan"
    title = msg("Evaluate a generator")
    summary = msg("Compare generated images with those of the test split and write a report.")
    program = ("ml", "evaluate", "gan")
    lane = RunLane.SHORT
    inputs = (
        Input("data", InputType.DATA, msg("Images to compare with.")),
        Input("generator", InputType.GENERATOR, msg("Generator to evaluate."), required=False),
        Input(
            "run",
            InputType.RUN,
            msg("Or the run that trained it, to show its curves in the report."),
            required=False,
            run_type="train-gan",
        ),
    )
    Options = GanEvaluationOptions
    lengths = on_each_device(
        length_options(trial={"samples": 64}, standard={"samples": 512}, long={"samples": 5_000})
    )

    def work(self, session: Session, options: JsonObject) -> Work:
        """The generated images and those that they are compared with."""
        samples = typed_values(GanEvaluationOptions, self, options).samples
        real = images_of(session, options) or 0
        return Work("", samples + real, 1, msg("%(count)s generated images", count=samples))

    def validate(self, options: JsonObject) -> dict[str, str]:
        """A generator is named once."""
        if bool(options["generator"]) == bool(options["run"]):
            return {"generator": msg("Choose either a generator or the run that trained it.")}
        return {}

    def complete(self, done: Completion) -> GeneratorEvaluationResult:
        """Read the main metrics from the report."""
        report = done.read_json(METRICS)
        spaces, pixels = report["spaces"], _object(report, "pixels")
        # A feature space may have too few images for a KID.
        kids = {
            f"kid_{space['name']}": space.get("kid")
            for space in (spaces if isinstance(spaces, list) else [])
            if isinstance(space, dict)
        }
        return GeneratorEvaluationResult.model_validate(
            {
                "samples": _object(report, "samples")["images"],
                **kids,
                "diversity": pixels["diversity"],
                "exact_copies": pixels["exact_copies"],
                "near_copies": pixels["near_copies"],
            }
        )


def _object(report: JsonObject, name: str) -> JsonObject:
    found = report[name]
    return found if isinstance(found, dict) else {}
