"""Prediction of images that may lie on their side or have their grey levels inverted. No torch."""

import numpy as np
from numpy.typing import NDArray

from ml.classifier.predictor import Prediction, Predictor
from ml.imaging.image_warnings import ImageWarning
from ml.imaging.orientation import OrientationCheck


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
        The prediction, whose activation map lies over the corrected image, and what has to be said
        of the image.
    """
    found = check.find(image)
    return predictor.predict(found.correct(image), alone=alone), found.warnings
