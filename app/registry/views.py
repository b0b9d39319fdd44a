"""What the pages of the registry share: a model's state and its metrics."""

from dataclasses import dataclass
from enum import StrEnum

from app.registry.card_views import generator_metrics
from app.registry.tables import ModelKind, ModelVersion
from ml.reporting.format import interval
from ml.texts import msg


class ModelState(StrEnum):
    """Whether a model is used, by its name on pages; in the order of lists."""

    ACTIVE = msg("active")
    REGISTERED = msg("registered")
    ARCHIVED = msg("archived")
    CARD_ONLY = msg("card only")


def state_of(model: ModelVersion, active: str | None) -> ModelState:
    """The state of a model, given the SHA-256 of the active classifier."""
    if model.sha256 == active:
        return ModelState.ACTIVE
    if model.archived_at:
        return ModelState.ARCHIVED
    return ModelState.REGISTERED if model.folder else ModelState.CARD_ONLY


# In this order.
CLASSIFIER_METRICS = (msg("Accuracy"), msg("Macro AUROC"))


@dataclass(frozen=True, slots=True)
class MetricText:
    """A metric as text; the interval is empty where there is none."""

    name: str
    value: str
    interval: str


def headline_metrics(model: ModelVersion) -> list[MetricText]:
    """The metrics that stand first on a model's page and in lists."""
    if model.kind is ModelKind.GENERATOR:
        rows = generator_metrics(model.generator_card)
        return [MetricText(row.name, row.value, "") for row in rows]
    metrics = model.classifier_card.metrics
    values = (metrics.accuracy, metrics.macro_auroc)
    return [
        MetricText(name, *interval(metric))
        for name, metric in zip(CLASSIFIER_METRICS, values, strict=True)
    ]
