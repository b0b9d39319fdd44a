"""A bundle: a folder with one ONNX graph and the card that describes it. No torch here.

The card says everything that is needed to use the graph and to judge it: labels, preprocessing,
temperature, thresholds, the data it learned from and the metrics it reached.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ml.errors import BundleError
from ml.json_model import finite
from ml.labels import labels_fault
from ml.legacy import rename_keys

GRAPH = "classifier.onnx"
# Where the graph carries `Card.decision_rule`.
RULE_KEY = "decision_rule"
CARD = "card.json"
CARD_FORMAT = 2
# Format 1 is that of 0.1.0.
READ_FORMATS = (1, CARD_FORMAT)
PRETRAINED = Path(__file__).parents[1] / "pretrained" / "classifier"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When the model answers and when it says that it does not know."""

    confidence: float  # below this probability of the best class: uncertain
    ood_score: float  # above this distance from the training images: out-of-distribution
    target_accuracy: float  # what `confidence` was chosen for, on validation


@dataclass(frozen=True, slots=True)
class Card:
    """What a bundle is, as far as its user and its critic need to know."""

    version: str
    created_at: str  # ISO 8601, UTC
    sha256: str  # of the graph
    network: str
    parameters: int
    input_size: int
    labels: list[str]
    preprocessing: str
    temperature: float
    thresholds: Thresholds
    code_version: str
    options: dict[str, Any]
    data: dict[str, Any]  # images by split and by source and label; licences
    metrics: dict[str, Any]  # measured on the test split
    intended_use: str
    limitations: list[str]
    licence: str
    format: int = field(default=CARD_FORMAT)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a card.

        Raises:
            BundleError: not a card, or one of another format.
        """
        try:
            fields = rename_keys(json.loads(text))
            if fields["format"] not in READ_FORMATS:
                raise BundleError(
                    f"the card has format {fields['format']}, this version reads {CARD_FORMAT}"
                )
            if fault := labels_fault(fields["labels"]):
                raise BundleError(f"the card's labels are not classes: {fault}")
            fields["thresholds"] = Thresholds(**fields["thresholds"])
            return cls(**fields)
        except (KeyError, TypeError, json.JSONDecodeError) as problem:
            raise BundleError(f"{CARD} is not a model card: {problem}") from problem

    def decision_rule(self) -> str:
        """All that turns the graph's outputs into an answer, as one line of JSON.

        The graph carries the same line, so its SHA-256 names the whole model: a graph that is
        calibrated anew is another model.
        """
        rule = {
            "labels": self.labels,
            "input_size": self.input_size,
            "preprocessing": self.preprocessing,
            "temperature": self.temperature,
            "thresholds": self._thresholds_in_rule(),
        }
        return json.dumps(rule, sort_keys=True)

    def _thresholds_in_rule(self) -> dict[str, float]:
        thresholds = asdict(self.thresholds)
        if self.format == 1:
            # The graphs of 0.1.0 carry this name, and what a graph carries never changes.
            thresholds["novelty"] = thresholds.pop("ood_score")
        return thresholds

    def as_json(self) -> dict[str, Any]:
        """The card as JSON values; numbers that are not finite become None."""
        fields: dict[str, Any] = finite(asdict(self))
        return fields

    def to_json(self) -> str:
        """The card as indented JSON text."""
        return json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n"


def read_bundle(folder: Path) -> tuple[Card, bytes]:
    """Read a bundle and check that the graph is the one its card names.

    Returns:
        The card and the graph's bytes, which are what was checked.

    Raises:
        BundleError: a file is missing, or the graph's SHA-256 is not the card's.
    """
    for name in (CARD, GRAPH):
        if not (folder / name).is_file():
            raise BundleError(f"no {name} in {folder}: name a bundle's folder")
    card = Card.from_json((folder / CARD).read_text(encoding="utf-8"))
    graph = (folder / GRAPH).read_bytes()
    digest = hashlib.sha256(graph).hexdigest()
    if digest != card.sha256:
        raise BundleError(
            f"{folder / GRAPH} has SHA-256 {digest[:12]}..., its card says "
            f"{card.sha256[:12]}...: the bundle is damaged or was changed, fetch it again"
        )
    return card, graph
