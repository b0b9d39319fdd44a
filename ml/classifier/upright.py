"""Prediction of images that may lie on their side or have their grey levels inverted. No torch."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ml.classifier.predictor import Prediction, Predictor
from ml.imaging.orientation import OrientationCheck
from ml.imaging.types import IMAGE_WARNINGS, ImageWarning


def predict_upright(
    predictor: Predictor,
    check: OrientationCheck,
    image: NDArray[np.uint8],
    *,
    alone: bool = False,
) -> tuple[Prediction, tuple[ImageWarning, ...]]:
    """Predict one image after turning it upright and making its bones bright, where needed.

    Args:
        predictor: the classifier.
        check: finds how the image lies.
        image: (S, S), standardised.
        alone: as in `Predictor.predict`.

    Returns:
        The prediction, whose activation map lies over the image as it was given, and what has to be
        said of the image.
    """
    found = check.find(image)
    prediction = predictor.predict(found.correct(image), alone=alone)
    turned_back = np.rot90(prediction.activation_map, -found.quarter_turns, axes=(1, 2))
    return (
        replace(prediction, activation_map=np.ascontiguousarray(turned_back)),
        found.warnings,
    )


def warning_texts(stored: str) -> list[str]:
    """The warnings that a joined text of them holds."""
    return [text for text in IMAGE_WARNINGS.values() if text in stored]
