"""Making probabilities mean what they say, and knowing when not to answer.

Everything here is fitted on the validation split and never on the test split. Thresholds may be
fitted on left-out sites instead: `ml.evaluation.site_calibration`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.metrics import Floats, Ints, log_loss, softmax

# A threshold that no probability reaches: the class is never predicted.
NEVER = 1.01


@dataclass(frozen=True, slots=True)
class SiteRule:
    """Thresholds that hold at every site that was left out in turn.

    Attributes:
        by_label: label -> least probability of a definite prediction; above 1 for never.
        answered: site -> share of its images with a definite prediction.
    """

    by_label: dict[str, float]
    answered: dict[str, float]


def fit_temperature(logits: Floats, truth: Ints) -> float:
    """The temperature that minimises the log loss (Guo et al., "On Calibration", 2017).

    The loss is convex in the inverse temperature, so a golden-section search over its
    logarithm finds the minimum.

    Args:
        logits: (N, C).
        truth: (N,) class numbers.

    Returns:
        A temperature in [0.05, 20].
    """

    def loss(log_temperature: float) -> float:
        return log_loss(truth, softmax(logits, float(np.exp(log_temperature))))

    low, high = float(np.log(0.05)), float(np.log(20.0))
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def confidence_threshold(truth: Ints, probabilities: Floats, target: float) -> float:
    """The lowest confidence from which on the answers given reach the target accuracy.

    Args:
        truth: (N,) class numbers.
        probabilities: (N, C), calibrated.
        target: accuracy wanted among the answered images, 0 to 1.

    Returns:
        The threshold; 1.0 where no threshold reaches the target.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    correct = (probabilities.argmax(axis=1) == truth)[order]
    running = np.cumsum(correct) / np.arange(1, len(truth) + 1)
    ranked = confidence[order]
    # Images of equal confidence are answered together or not at all.
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    reaching = np.flatnonzero((running >= target) & last_of_tie)
    return float(ranked[reaching[-1]]) if len(reaching) else 1.0


@dataclass(frozen=True, slots=True)
class FamiliaritySpace:
    """Where the embeddings of the training images lie, to recognise an image unlike them.

    Embeddings are projected on the leading principal directions and whitened; the
    out-of-distribution score of a
    image is its distance from the nearest class centre there (Mahalanobis distance with tied
    covariance, Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution
    Samples", 2018), divided by sqrt(D) so that about 1 is usual.
    """

    offset: NDArray[np.float32]  # (F,)
    projection: NDArray[np.float32]  # (F, D)
    centres: NDArray[np.float32]  # (C, D)

    def ood_score(self, embedding: NDArray[np.floating]) -> Floats:
        """(N, F) embeddings -> (N,) out-of-distribution score, at least 0."""
        place = (embedding - self.offset) @ self.projection
        gaps = place[:, None, :] - self.centres[None]
        distance: Floats = np.sqrt((gaps**2).mean(axis=-1)).min(axis=1).astype(np.float64)
        return distance


def fit_familiarity(embedding: Floats, labels: Ints, classes: int, dims: int) -> FamiliaritySpace:
    """Fit the space on the training images' embeddings.

    Args:
        embedding: (N, F).
        labels: (N,) class numbers.
        classes: number of classes C; each needs at least one image.
        dims: number of principal directions D kept.
    """
    offset = embedding.mean(axis=0)
    means = np.stack([embedding[labels == k].mean(axis=0) for k in range(classes)])
    within = embedding - means[labels]
    covariance = within.T @ within / len(within)
    values, vectors = np.linalg.eigh(covariance)
    leading = slice(-dims, None)
    # The floor keeps directions without spread from being blown up.
    scale = np.sqrt(np.maximum(values[leading], values[-1] * 1e-6))
    projection = vectors[:, leading] / scale
    return FamiliaritySpace(
        offset.astype(np.float32),
        projection.astype(np.float32),
        ((means - offset) @ projection).astype(np.float32),
    )
