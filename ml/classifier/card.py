"""The card of a classifier: everything needed to use its graph and to judge it. No torch here.

The card says how to decide (labels, preprocessing, temperature, thresholds), what the classifier
was trained on, and the metrics it reached on the test split.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from ml.evaluation.results import EvaluationMetrics
from ml.json_model import JsonFloat, JsonModel
from ml.labels import labels_fault
from ml.options.classifier import ClassifierOptions

CARD_FORMAT = 2
# Format 1 is that of version 0.1.0.
READ_FORMATS = (1, CARD_FORMAT)


class Thresholds(JsonModel):
    """When the classifier commits itself to a prediction.

    Attributes:
        confidence: below this probability of the most likely class the image is uncertain.
        ood_score: above this distance from the training images it is out of distribution.
        target_accuracy: the accuracy that the confidence was chosen for, on validation or, by
            class, at every left-out site.
        by_label: label -> confidence below which a prediction of this class is uncertain; above 1
            where it always is. Empty where `confidence` holds for every class.
        left_out_sites: those that `by_label` was fitted on.
    """

    confidence: JsonFloat
    ood_score: JsonFloat
    target_accuracy: JsonFloat
    by_label: dict[str, JsonFloat] = Field(default_factory=dict)
    left_out_sites: list[str] = Field(default_factory=list)

    def confidence_for(self, label: str) -> float:
        """Below this probability an image whose most likely class this is is uncertain."""
        return self.by_label.get(label, self.confidence)


class TrainingData(JsonModel):
    """The images that a classifier was trained, calibrated and measured on.

    Attributes:
        images: by split.
        patients: by split.
        by_source: split -> source -> label -> images.
        split: how images were assigned to the splits.
        synthetic: synthetic training images: SHA-256 of the generator -> label -> images.
        started_from: SHA-256 of the weights that training started from; empty for ImageNet's.
        averaged_seeds: of the trainings whose weights were averaged; empty for a single one.
    """

    images: dict[str, int]
    patients: dict[str, int]
    by_source: dict[str, dict[str, dict[str, int]]]
    split: str
    synthetic: dict[str, dict[str, int]] = Field(default_factory=dict)
    started_from: str = ""
    averaged_seeds: list[int] = Field(default_factory=list)


class ModelCard(JsonModel):
    """What a classifier is.

    Attributes:
        created_at: ISO 8601, UTC.
        sha256: of the graph: the classifier's name.
        labels: the classes, in the order of the graph's outputs.
        metrics: measured on the test split.
    """

    version: str
    created_at: str
    sha256: str
    network: str
    parameters: int
    input_size: int
    labels: list[str]
    preprocessing: str
    temperature: JsonFloat
    thresholds: Thresholds
    code_version: str
    options: ClassifierOptions
    data: TrainingData
    metrics: EvaluationMetrics
    intended_use: str
    limitations: list[str]
    licence: str
    format: int

    @model_validator(mode="before")
    @classmethod
    def _has_known_format(cls, fields: Any) -> Any:
        # First: a card of another format differs in its fields too.
        if isinstance(fields, Mapping) and (found := fields.get("format")) not in READ_FORMATS:
            raise ValueError(f"format is {found!r:.20}, this version reads {CARD_FORMAT}")
        return fields

    @field_validator("labels")
    @classmethod
    def _are_classes(cls, labels: list[str]) -> list[str]:
        if fault := labels_fault(labels):
            raise ValueError(f"the labels are not classes: {fault}")
        return labels

    @field_validator("created_at")
    @classmethod
    def _is_moment(cls, text: str) -> str:
        datetime.fromisoformat(text)
        return text

    @model_validator(mode="after")
    def _has_thresholds_of_its_classes(self) -> Self:
        own = self.thresholds.by_label
        if own and set(own) != set(self.labels):
            raise ValueError("the thresholds by class are not those of the labels")
        return self

    def decision_rule(self) -> str:
        """All that turns the graph's outputs into a prediction, as one line of JSON.

        The graph carries the same line, so its SHA-256 names the whole model: a graph with
        another calibration is another model.
        """
        rule = {
            "labels": self.labels,
            "input_size": self.input_size,
            "preprocessing": self.preprocessing,
            "temperature": self.temperature,
            "thresholds": self._thresholds_in_rule(),
        }
        return json.dumps(rule, sort_keys=True)

    def _thresholds_in_rule(self) -> dict[str, object]:
        thresholds: dict[str, object] = self.thresholds.model_dump()
        # Graphs that have no thresholds by class carry a rule without these fields.
        if not self.thresholds.by_label:
            del thresholds["by_label"], thresholds["left_out_sites"]
        if self.format == 1:
            # The graphs of 0.1.0 carry this name, and what a graph carries never changes.
            thresholds["novelty"] = thresholds.pop("ood_score")
        return thresholds
