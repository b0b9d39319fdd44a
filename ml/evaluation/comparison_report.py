"""The report of `xray compare classifiers`: the contract of `comparison.json`."""

from typing import Self

from pydantic import Field, model_validator

from ml.evaluation.metrics import Interval
from ml.evaluation.results import EvaluationMetrics
from ml.json_model import JsonModel

COMPARISON = "comparison.json"


class ComparedClassifier(JsonModel):
    """One of the two classifiers, and its metrics on the images of the comparison."""

    sha256: str
    version: str
    metrics: EvaluationMetrics


class MetricDifferences(JsonModel):
    """Metrics of the candidate less those of the reference, with paired 95 % intervals."""

    accuracy: Interval
    macro_auroc: Interval


class ImagePrediction(JsonModel):
    """The prediction for one image.

    Attributes:
        label: the most likely class.
        decision: that class, or "uncertain".
        probability: of the most likely class.
    """

    label: str
    decision: str
    probability: float


class ChangedPrediction(JsonModel):
    """An image for which the two predict another class or decide otherwise.

    Attributes:
        image: its path in the data set.
        label: the true class.
    """

    image: str
    source: str = ""
    label: str
    candidate: ImagePrediction
    reference: ImagePrediction


class ComparisonReport(JsonModel):
    """Two classifiers on the same test images.

    Attributes:
        candidate: the classifier that may be activated.
        reference: the one it was compared with.
        data: images by source and label.
        draws: bootstrap draws, of random seed `seed`.
        card_reproduced: whether the candidate reached the metrics of its card; None where the
            images are not those of the card.
        card_faults: the metrics of the card that it did not reach.
        passed: whether the candidate may be activated, as far as a comparison can say.
        faults: why not.
        changed: images whose prediction changes.
    """

    candidate: ComparedClassifier
    reference: ComparedClassifier
    images: int
    patients: int
    data: dict[str, dict[str, int]] = Field(default_factory=dict)
    draws: int = 0
    seed: int = 0
    differences: MetricDifferences
    card_reproduced: bool | None
    card_faults: list[str]
    passed: bool
    faults: list[str]
    changed: list[ChangedPrediction]

    @model_validator(mode="after")
    def _verdict_agrees_with_faults(self) -> Self:
        if self.passed == bool(self.faults):
            raise ValueError(f"passed is {self.passed} and there are {len(self.faults)} faults")
        return self
