"""A predictor that serves."""

import numpy as np

from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import Predictor
from tests.support.images import synthetic_image


def test_prediction_does_not_depend_on_the_number_of_threads() -> None:
    serving, plain = Predictor.load(PRETRAINED, serving=True), Predictor.load(PRETRAINED)
    side = serving.card.input_size
    for seed in range(3):
        image = synthetic_image(np.random.default_rng(seed), side, side)
        expected, alone = plain.predict(image), serving.predict(image, alone=True)
        assert serving.predict(image).probabilities == expected.probabilities
        assert alone.decision == expected.decision
        np.testing.assert_allclose(
            list(alone.probabilities.values()), list(expected.probabilities.values()), atol=1e-6
        )
        np.testing.assert_allclose(alone.activation_map, expected.activation_map, atol=1e-4)
        np.testing.assert_allclose(alone.embedding, expected.embedding, atol=1e-4)
