"""What an evaluation of a classifier says: the contract of its JSON. Intervals are 95 %."""

from typing import Self

from ml.evaluation.metrics import Interval, ReliabilityBin
from ml.json_model import JsonFloat, JsonModel
from ml.options.classifier import ClassifierOptions


class ClassMetrics(JsonModel):
    """Metrics of one class against the others.

    Attributes:
        support: images of the class.
    """

    precision: JsonFloat
    recall: JsonFloat
    f1: JsonFloat
    auroc: JsonFloat
    precision_interval: Interval
    recall_interval: Interval
    f1_interval: Interval
    auroc_interval: Interval
    support: int


class WithinSourceMetric(JsonModel):
    """How well two classes are told apart among the images of one source."""

    source: str
    positive: str
    negative: str
    auroc: Interval


class SelectiveMetrics(JsonModel):
    """What the decision rule does: coverage, and accuracy with and without the uncertain images.

    Attributes:
        coverage: share of the images with a confident prediction.
        accuracy_when_answering: accuracy of those predictions.
        accuracy_when_uncertain: accuracy of the most likely class on the other images.
        out_of_distribution: share of the images that are called out of distribution.
    """

    coverage: JsonFloat
    accuracy_when_answering: JsonFloat
    accuracy_when_uncertain: JsonFloat
    out_of_distribution: JsonFloat
    coverage_interval: Interval
    accuracy_when_answering_interval: Interval
    accuracy_when_uncertain_interval: Interval
    out_of_distribution_interval: Interval


class EvaluationMetrics(JsonModel):
    """The evaluation of one classifier on one set of images.

    Attributes:
        per_class: by label.
        confusion: rows are true classes, columns predicted ones, in the order of the labels.
        within_source: one class against one other inside one source.
    """

    images: int
    patients: int
    accuracy: Interval
    macro_auroc: Interval
    calibration_error: JsonFloat
    calibration_error_interval: Interval
    per_class: dict[str, ClassMetrics]
    confusion: list[list[int]]
    within_source: list[WithinSourceMetric]
    reliability: list[ReliabilityBin]
    selective: SelectiveMetrics

    @classmethod
    def unmeasured(cls) -> Self:
        """Metrics of no images: those of a classifier that is about to be evaluated."""
        nan = float("nan")
        nothing = Interval(nan, nan, nan, 0)
        return cls(
            images=0,
            patients=0,
            accuracy=nothing,
            macro_auroc=nothing,
            calibration_error=nan,
            calibration_error_interval=nothing,
            per_class={},
            confusion=[],
            within_source=[],
            reliability=[],
            selective=SelectiveMetrics(
                coverage=nan,
                accuracy_when_answering=nan,
                accuracy_when_uncertain=nan,
                out_of_distribution=nan,
                coverage_interval=nothing,
                accuracy_when_answering_interval=nothing,
                accuracy_when_uncertain_interval=nothing,
                out_of_distribution_interval=nothing,
            ),
        )


class EvaluatedModel(JsonModel):
    """The classifier of an evaluation."""

    version: str
    sha256: str
    network: str
    options: ClassifierOptions


class ClassifierEvaluation(JsonModel):
    """`metrics.json` of `xray evaluate classifier`.

    Attributes:
        protocol: which images were measured, as a sentence.
        draws: bootstrap draws, of random seed `seed`.
        data: images by source and label.
        roc: by label, points (false positive rate, true positive rate).
        training: the log of the training run, a row for each epoch; may be empty.
    """

    model: EvaluatedModel
    protocol: str
    seed: int
    draws: int
    data: dict[str, dict[str, int]]
    metrics: EvaluationMetrics
    roc: dict[str, list[tuple[float, float]]]
    training: list[dict[str, JsonFloat]]
