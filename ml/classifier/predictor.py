"""Run a classifier bundle on images. ONNX Runtime only: this module never imports torch."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ml.classifier.bundle import RULE_KEY, read_bundle
from ml.classifier.card import ModelCard, Thresholds
from ml.errors import BundleError
from ml.evaluation.metrics import softmax
from ml.labels import label_name
from ml.network_files import require_squares
from ml.onnx_runtime import open_graph
from ml.texts import msg

UNCERTAIN = "uncertain"


class Reason(StrEnum):
    """Why an image is uncertain."""

    LOW_CONFIDENCE = "low-confidence"
    OUT_OF_DISTRIBUTION = "out-of-distribution"


def decision_name(decision: str) -> str:
    """What people call a decision: "Uncertain", or the name of the class."""
    return msg("Uncertain") if decision == UNCERTAIN else label_name(decision)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one image."""

    label: str  # the most likely class, also where the decision is "uncertain"
    decision: str  # a label, or "uncertain"
    reason: Reason | None  # why the decision is "uncertain"
    probabilities: dict[str, float]  # calibrated, in the order of the labels, sum 1
    ood_score: float  # distance from the training images, about 1 for a typical image
    embedding: NDArray[np.float32]  # (F,)
    activation_map: NDArray[np.float32]  # (C, h, w), lies over the whole image


def abstention_reason(
    thresholds: Thresholds, label: str, confidence: float, ood_score: float
) -> Reason | None:
    """Why an image is uncertain by some thresholds; None where it is not.

    Args:
        thresholds: of the classifier, or of a clinic.
        label: the most likely class.
        confidence: its probability.
        ood_score: of the image.
    """
    # Written so that a score or probability of NaN is uncertain.
    if not ood_score <= thresholds.ood_score:
        return Reason.OUT_OF_DISTRIBUTION
    if not confidence >= thresholds.confidence_for(label):
        return Reason.LOW_CONFIDENCE
    return None


def decided_by(prediction: Prediction, thresholds: Thresholds) -> Prediction:
    """The same prediction with the decision that other thresholds give."""
    confidence = prediction.probabilities[prediction.label]
    reason = abstention_reason(thresholds, prediction.label, confidence, prediction.ood_score)
    return replace(prediction, decision=UNCERTAIN if reason else prediction.label, reason=reason)


class Predictor:
    """The classifier of one bundle; safe to use from several threads at once."""

    def __init__(self, card: ModelCard, graph: bytes, *, threads: int = 1, serving: bool = False):
        """Build the session.

        Args:
            card: describes the graph.
            graph: a serialised ONNX model.
            threads: cores that one call may use; 1 serves several callers best.
            serving: as in `open_graph`; a call may then also take two cores.
        """
        self.card = card
        self._session = open_graph(graph, threads=threads, serving=serving)
        self._two_threads = open_graph(graph, threads=2, serving=True) if serving else None
        # By position: graphs of 0.1.0 have other names for the input and the last output.
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()[:4]]

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1, serving: bool = False) -> Self:
        """Read and verify a bundle.

        Raises:
            BundleError: the bundle is missing, damaged or not what its card says.
        """
        card, graph = read_bundle(folder)
        predictor = cls(card, graph, threads=threads, serving=serving)
        carried = predictor._session.get_modelmeta().custom_metadata_map.get(RULE_KEY)
        if carried != card.decision_rule():
            raise BundleError(
                f"The card in {folder} has other labels, thresholds or another temperature than "
                "the graph. The bundle was changed. Copy it again."
            )
        return predictor

    def predict(self, image: NDArray[np.uint8], *, alone: bool = False) -> Prediction:
        """Predict one standardised image of shape (S, S).

        Args:
            image: as of `standardise`.
            alone: no other call is in progress, so that two cores are free where this serves.
        """
        return self.predict_batch(image[None], alone=alone)[0]

    def predict_batch(self, images: NDArray[np.uint8], *, alone: bool = False) -> list[Prediction]:
        """Predict standardised images of shape (B, S, S); `alone` as in `predict`.

        Raises:
            ValueError: the images have another shape or type than the card says.
        """
        require_squares(images, self.card.input_size)
        session = self._two_threads if alone and self._two_threads else self._session
        logits, embeddings, maps, ood_scores = session.run(
            self._outputs, {self._input: images[:, None]}
        )
        probabilities = softmax(logits, self.card.temperature)
        return [
            self._prediction(*parts)
            for parts in zip(probabilities, embeddings, maps, ood_scores, strict=True)
        ]

    def _prediction(
        self,
        probabilities: NDArray[np.float64],
        embedding: NDArray[np.float32],
        activation_map: NDArray[np.float32],
        ood_score: np.float32,
    ) -> Prediction:
        best = int(probabilities.argmax())
        label = self.card.labels[best]
        reason = abstention_reason(
            self.card.thresholds, label, float(probabilities[best]), float(ood_score)
        )
        return Prediction(
            label=label,
            decision=UNCERTAIN if reason else label,
            reason=reason,
            probabilities=dict(zip(self.card.labels, map(float, probabilities), strict=True)),
            ood_score=float(ood_score),
            embedding=embedding,
            activation_map=activation_map,
        )
