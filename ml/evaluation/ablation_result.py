"""What an ablation says: the contracts of its JSON. Intervals are 95 %."""

from ml.evaluation.comparison_report import MetricDifferences
from ml.evaluation.metrics import Interval
from ml.json_model import JsonFloat, JsonModel
from ml.options.classifier import AblationOptions, ClassifierOptions


class ConditionDescription(JsonModel):
    """What a condition is called, and which images it is trained with."""

    name: str
    learns: str


class ConditionMetrics(JsonModel):
    """Metrics of a condition: means over its trainings.

    Attributes:
        differences: to the condition of real images; none for that one itself.
    """

    accuracy: Interval
    macro_auroc: Interval
    differences: MetricDifferences | None


class SourceMetrics(JsonModel):
    """The conditions on the measured images of one source."""

    source: str
    images: int
    patients: int
    conditions: dict[str, ConditionMetrics]


class TrainingImageCounts(JsonModel):
    """How many images were trained with, by label."""

    real: dict[str, int]
    synthetic: dict[str, int]


class ConditionTraining(JsonModel):
    """Metrics of one training on the measured images."""

    seed: int
    accuracy: JsonFloat
    macro_auroc: JsonFloat


class SettingResult(JsonModel):
    """The conditions in one setting.

    Attributes:
        name: of folders.
        left_out: sites or sources that no condition was trained with; empty: none.
        images: how many were measured.
        learned: how many images were trained with.
        conditions: metrics by condition.
        trainings: by condition, the metrics of each training.
        sources: metrics by source, where there are several.
        sentences: each condition's effect beside that of real images.
    """

    name: str
    left_out: str
    images: int
    patients: int
    learned: TrainingImageCounts
    conditions: dict[str, ConditionMetrics]
    trainings: dict[str, list[ConditionTraining]]
    sources: list[SourceMetrics]
    sentences: list[str]


class AblationResult(JsonModel):
    """`conditions.json` of `xray compare conditions`.

    Attributes:
        conditions: descriptions by condition.
        draws: bootstrap draws, of random seed `seed`.
        demonstration: whether the images are those of the demonstration set.
        sentences: those of all settings.
    """

    options: AblationOptions
    conditions: dict[str, ConditionDescription]
    draws: int
    seed: int
    demonstration: bool
    settings: list[SettingResult]
    sentences: list[str]


class FinishedTrainingMetrics(ConditionTraining):
    """Metrics of a training that is over, and what it took."""

    epochs: int
    seconds: float


class TrainingInputs(JsonModel):
    """What the result of one training depends on."""

    options: ClassifierOptions
    learned_sha256: str
    measured_sha256: str


class FinishedTraining(JsonModel):
    """`predictions.json` in the folder of a training.

    Attributes:
        probabilities: (N, C), of the measured images.
    """

    inputs: TrainingInputs
    metrics: FinishedTrainingMetrics
    probabilities: list[list[float]]
