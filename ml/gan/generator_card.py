"""The card of a generator: how to build it and where it comes from. No torch here.

The card stands in the metadata of the generator's file; a released generator has it as `card.json`
too, with the SHA-256 of its files.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator

from ml.gan.evaluation.results import GeneratorEvaluation
from ml.json_model import JsonFloat, JsonModel
from ml.labels import labels_fault
from ml.options.gan import GanOptions

GENERATOR_CARD_FORMAT = 1
# A released generator without these cannot be shown or used; training options have defaults.
_REQUIRED_OPTIONS = ("objective", "network", "labels", "size", "latent", "conditional")


class TrainingMetrics(JsonModel):
    """What training itself measured; empty where it measured nothing."""

    kid: JsonFloat | None = None
    features: str = ""


def _kind_of_metrics(value: object) -> str:
    evaluated = isinstance(value, GeneratorEvaluation) or (
        isinstance(value, Mapping) and not value.keys().isdisjoint(("spaces", "pixels"))
    )
    return "<evaluation>" if evaluated else "<training>"


GeneratorMetrics = Annotated[
    Annotated[GeneratorEvaluation, Tag("<evaluation>")]
    | Annotated[TrainingMetrics, Tag("<training>")],
    Discriminator(_kind_of_metrics),
]


class GeneratorCard(JsonModel):
    """What a generator is.

    Attributes:
        options: of the training run; they say how to build the network.
        step: generator steps taken.
        images_seen: real images shown to the critic.
        images_sha256: fingerprint of the training images.
        images: training images by class.
        created_at: ISO 8601, UTC.
        notes: intended use and limits.
        licence: of the generator and of its images; empty where none is stated.
    """

    options: GanOptions
    step: int
    images_seen: int
    images_sha256: str
    images: dict[str, int]
    code_version: str
    created_at: str
    metrics: GeneratorMetrics = Field(default_factory=TrainingMetrics)
    notes: list[str] = Field(default_factory=list)
    licence: str = ""
    format: int = GENERATOR_CARD_FORMAT

    @field_validator("created_at")
    @classmethod
    def _is_moment(cls, text: str) -> str:
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"created_at is {text!r:.40}, expected a moment as 2026-01-31T12:00:00+00:00"
            ) from None
        return text

    @property
    def evaluation(self) -> GeneratorEvaluation | None:
        """The metrics of a measured generator; None where it was not measured."""
        return self.metrics if isinstance(self.metrics, GeneratorEvaluation) else None

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the generator's class numbers."""
        return self.options.label_names


class ReleasedGeneratorCard(GeneratorCard):
    """`card.json` of a released generator.

    Attributes:
        sha256: of the generator's file: the generator's name.
        graph_sha256: of its ONNX graph; empty where it has none.
        trained_sha256: of the file that the run left, before it was measured.
    """

    sha256: str
    graph_sha256: str = ""
    trained_sha256: str = ""

    @field_validator("options", mode="before")
    @classmethod
    def _has_required_options(cls, options: Any) -> Any:
        missing = [
            name
            for name in _REQUIRED_OPTIONS
            if isinstance(options, Mapping) and name not in options
        ]
        if missing:
            raise ValueError("; ".join(f"options.{name} is missing" for name in missing))
        return options

    @field_validator("options")
    @classmethod
    def _has_labels(cls, options: GanOptions) -> GanOptions:
        if fault := labels_fault(options.label_names):
            raise ValueError(f"options.labels is {options.labels!r:.40}: {fault}")
        return options
