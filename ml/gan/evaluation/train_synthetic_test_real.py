"""Train on synthetic images, test on real ones: do samples show what distinguishes the classes?

A logistic regression on fixed embeddings takes the place of a classifier (after Esteban, Hyland,
Raetsch, "Real-valued (Medical) Time Series Generation with Recurrent Conditional GANs", 2017). The
probe and its regularisation are the same for synthetic and real training images.

Use embeddings of a network that was not trained on these classes (`efficientnet-lite0`): the
released classifier's features encode the classes already, so a probe on them would score well
whatever the samples show.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.errors import DataError
from ml.evaluation.metrics import Interval, Ints, bootstrap, macro_auroc
from ml.gan.evaluation.distances import Points
from ml.gan.evaluation.results import ProbeMetrics

# Inverse strength of the ridge penalty on features of unit variance. A weak penalty would overfit a
# thousand features of a few hundred images.
_STRENGTH = 0.01


@dataclass(frozen=True, slots=True)
class LabelledPoints:
    """Embeddings (N, F) with their class numbers (N,)."""

    points: Points
    labels: Ints


def synthetic_against_real(
    synthetic: LabelledPoints,
    real: LabelledPoints,
    test: LabelledPoints,
    patients: NDArray[np.str_],
) -> ProbeMetrics:
    """Train one probe on samples and one on real images, test both on the same real images.

    Args:
        synthetic: samples of every class of the test images.
        real: real training images of patients outside the test split, ideally as many as there are
            samples; their probe is the upper bound.
        test: real test images.
        patients: (N,) of the test images, drawn in the bootstrap.

    Raises:
        DataError: a set lacks a class of the test images, or these are of one class.
    """
    of_synthetic = probe_auroc(synthetic, test, patients, name="synthetic")
    of_real = probe_auroc(real, test, patients, name="real training")
    return ProbeMetrics(
        synthetic=of_synthetic,
        real=of_real,
        gap=of_real.value - of_synthetic.value,
        samples=len(synthetic.points),
        real_images=len(real.points),
    )


def probe_auroc(
    training: LabelledPoints, test: LabelledPoints, patients: NDArray[np.str_], *, name: str
) -> Interval:
    """Macro AUROC on test images of a probe, with its 95 % bootstrap interval over patients.

    Raises:
        DataError: the training images have other classes than the test images, or there is one
            class only; the message calls them by `name`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes = np.unique(test.labels)
    found = np.unique(training.labels)
    if len(classes) < 2 or not np.array_equal(classes, found):
        raise DataError(
            f"The {name} images have classes {found.tolist()}, the test images {classes.tolist()}. "
            "A probe needs the same two classes or more on both sides."
        )
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=1000))
    probe.fit(training.points.astype(np.float64), training.labels)
    probabilities = probe.predict_proba(test.points.astype(np.float64))
    truth = np.searchsorted(classes, test.labels)
    return bootstrap(macro_auroc, truth, probabilities, patients)
