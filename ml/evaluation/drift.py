"""Whether a clinic's images differ from those that a classifier knows: scores and embeddings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ml.classifier.bundle import PRETRAINED, read_card
from ml.classifier.predictor import Prediction
from ml.errors import DataError
from ml.evaluation.metrics import Floats
from ml.evaluation.two_sample import Moments, TwoSampleTest, hotelling, kolmogorov_smirnov
from ml.json_model import InvalidJson, JsonFloat, JsonModel

REFERENCE = "reference.json"
# All tests together alarm this often without a difference.
FALSE_ALARMS = 0.01
# Fewer images than this are no reference, and on a clinic's side say nothing.
LEAST_IMAGES = 50
# Random directions that embeddings are projected on; as many numbers describe a set of images.
DIRECTIONS = 16


class DriftReference(JsonModel):
    """Statistics of images that a classifier knows; nothing of a single image can be read from it.

    Attributes:
        sha256: of the classifier.
        images: how many.
        confidence: of the most probable class, sorted.
        ood_score: sorted.
        embedding_mean: (D,) of the projected embeddings.
        embedding_covariance: (D, D).
    """

    sha256: str
    images: int
    confidence: list[float]
    ood_score: list[float]
    embedding_mean: list[float]
    embedding_covariance: list[list[float]]


class DriftTest(JsonModel):
    """One property compared.

    Attributes:
        property: confidence, ood_score or embedding.
        test: its name.
        distance: of the two distribution functions, or of the means in standard deviations.
        p_value: chance of such a distance without a difference.
        differs: whether the p-value is below the bound for all tests together.
    """

    property: str
    test: str
    distance: JsonFloat
    p_value: float
    differs: bool


class DriftReport(JsonModel):
    """The images of a clinic beside the reference."""

    images: int
    reference_images: int
    false_alarms: float
    tests: list[DriftTest]

    @property
    def differs(self) -> bool:
        """Whether any property differs."""
        return any(test.differs for test in self.tests)


def reference_of(sha256: str, predictions: Sequence[Prediction]) -> DriftReference:
    """The statistics of predictions for images that the classifier knows.

    Raises:
        DataError: there are too few.
    """
    if len(predictions) < LEAST_IMAGES:
        raise DataError(
            f"{len(predictions)} images are too few for a reference. Use at least {LEAST_IMAGES}."
        )
    moments = Moments.of(_projected(predictions))
    return DriftReference(
        sha256=sha256,
        images=len(predictions),
        confidence=_rounded(np.sort(_confidence(predictions))),
        ood_score=_rounded(np.sort(_ood_scores(predictions))),
        embedding_mean=_rounded(moments.mean),
        embedding_covariance=[_rounded(row) for row in moments.covariance],
    )


def compare_with_reference(
    reference: DriftReference, predictions: Sequence[Prediction]
) -> DriftReport:
    """Test the scores and the embeddings of a clinic's images against the reference.

    Raises:
        DataError: there are too few images.
    """
    if len(predictions) < LEAST_IMAGES:
        raise DataError(
            f"{len(predictions)} images are too few for a comparison with the training data. Give "
            f"at least {LEAST_IMAGES}."
        )
    known = Moments(
        np.array(reference.embedding_mean),
        np.array(reference.embedding_covariance),
        reference.images,
    )
    smirnov = "Kolmogorov-Smirnov"
    found = {
        ("confidence", smirnov): kolmogorov_smirnov(reference.confidence, _confidence(predictions)),
        ("ood_score", smirnov): kolmogorov_smirnov(reference.ood_score, _ood_scores(predictions)),
        ("embedding", "Hotelling"): hotelling(known, Moments.of(_projected(predictions))),
    }
    return DriftReport(
        images=len(predictions),
        reference_images=reference.images,
        false_alarms=FALSE_ALARMS,
        tests=[_test(*names, result, len(found)) for names, result in found.items()],
    )


def _test(name: str, test: str, result: TwoSampleTest, count: int) -> DriftTest:
    return DriftTest(
        property=name,
        test=test,
        distance=result.statistic,
        p_value=result.p_value,
        differs=result.p_value < FALSE_ALARMS / count,
    )


def read_reference(bundle: Path, sha256: str) -> DriftReference | None:
    """The reference that lies beside a classifier, or that came with the released one.

    Raises:
        DataError: it is damaged, or of another classifier.
    """
    places = [bundle]
    if read_card(PRETRAINED).sha256 == sha256:
        places.append(PRETRAINED)
    path = next((place / REFERENCE for place in places if (place / REFERENCE).is_file()), None)
    if path is None:
        return None
    try:
        reference = DriftReference.from_json(path.read_bytes())
    except InvalidJson as problem:
        raise DataError(
            f"{path} is damaged: {problem}. Write it again with xray evaluate reference."
        ) from None
    if reference.sha256 != sha256:
        raise DataError(
            f"{path} is of another classifier. Write it again with xray evaluate reference."
        )
    return reference


def _confidence(predictions: Sequence[Prediction]) -> Floats:
    return np.array([max(one.probabilities.values()) for one in predictions])


def _ood_scores(predictions: Sequence[Prediction]) -> Floats:
    return np.array([one.ood_score for one in predictions])


def _projected(predictions: Sequence[Prediction]) -> Floats:
    """(N, F) embeddings on random directions -> (N, D); always the same ones for one F."""
    embeddings = np.stack([one.embedding for one in predictions]).astype(np.float64)
    size = embeddings.shape[1]
    directions = np.random.default_rng(0).normal(size=(size, min(size, DIRECTIONS)))
    projected: Floats = embeddings @ directions / np.sqrt(size)
    return projected


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
