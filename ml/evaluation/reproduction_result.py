"""What a reproduction of the 2021 report says: the contracts of its JSON. Intervals are 95 %."""

from dataclasses import dataclass

from ml.evaluation.metrics import Interval
from ml.evaluation.results import ClassMetrics, WithinSourceMetric
from ml.json_model import JsonFloat, JsonModel

NETWORK = "report-cnn"
# The report's classes, whatever else a data set has.
LABELS = ("covid", "pneumonia", "normal")
# The report's COVID-19 collection, and the hospital of its pneumonia and normal images.
COLLECTION, CHILDREN = "cohen", "kermany"
# Name -> what it is called and what it means, for the tables and the notes below them.
CONDITIONS = {
    "as-reported": (
        "as reported",
        "augmented copies of the COVID-19 images first, then a split by image",
    ),
    "by-patient": (
        "by patient",
        "a split by patient, then augmented copies of the training images only",
    ),
}
TEST_SETS = {
    "test": ("own test images", "the test split of the network"),
    "children": (CHILDREN, f"the test images of {CHILDREN}"),
    "collection": (
        COLLECTION,
        f"the COVID-19 test images of {COLLECTION}, and its images of other patients, on which "
        "neither network was trained",
    ),
    "unseen": ("other sources", "images of sources on which neither network was trained"),
}


@dataclass(frozen=True, slots=True)
class ReproductionOptions:
    """All that decides the result of a reproduction."""

    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 1e-3
    covid_images: int = 2055  # what the report enlarged its collection to
    precision: str = "float32"
    seed: int = 0
    limit: int = 0  # most images of a source and class; 0: all


class ReportedMetrics(JsonModel):
    """What the report states; `recall` by class."""

    accuracy: float
    recall: dict[str, float]


REPORTED = ReportedMetrics(accuracy=0.98, recall={"covid": 1.00, "pneumonia": 0.97, "normal": 1.00})


class EpochMetrics(JsonModel):
    """Metrics of one epoch of training."""

    epoch: int
    train_loss: JsonFloat
    train_accuracy: JsonFloat
    validation_loss: JsonFloat
    validation_accuracy: JsonFloat


class MeasuredImages(JsonModel):
    """Metrics of one network on the images of one test set.

    Attributes:
        per_class: by label.
        confusion: rows are true classes, columns predicted ones, in the order of `LABELS`.
    """

    images: int
    patients: int
    accuracy: Interval
    per_class: dict[str, ClassMetrics]
    confusion: list[list[int]]
    within_source: list[WithinSourceMetric]


class ReproductionInputs(JsonModel):
    """What a reproduction depends on."""

    options: ReproductionOptions
    images_sha256: str


class ConditionResult(ReproductionInputs):
    """The JSON file of one condition: its training, and its metrics by test set."""

    epochs: list[EpochMetrics]
    metrics: dict[str, MeasuredImages]


class ReproductionResult(ReproductionInputs):
    """`reproduction.json` of `xray reproduce report`; `conditions` by name."""

    reported: ReportedMetrics
    conditions: dict[str, ConditionResult]
