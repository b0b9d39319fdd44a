"""Train on synthetic images, test on real ones: is what tells classes apart in the samples?

A logistic regression on fixed embeddings stands for a classifier (the idea: Esteban, Hyland,
Raetsch, "Real-valued (Medical) Time Series Generation with Recurrent Conditional GANs", 2017). It
is the same probe, with the same strength of regularisation, for synthetic and real training images.

Embed with a network that has learned no labels of images (`efficientnet-lite0`): our classifier's
features hold the classes already, and a probe on them finds what the samples do not teach.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.errors import DataError
from ml.evaluation.metrics import Interval, Ints, bootstrap, macro_auroc
from ml.gan.evaluation.distances import Points

# Inverse strength of the ridge penalty, on features of unit variance: with a thousand features
# and some hundred images a weak one would learn them by heart.
_STRENGTH = 0.01


@dataclass(frozen=True, slots=True)
class ProbeMetrics:
    """Macro AUROC on real test images of probes trained on synthetic and on real images."""

    synthetic: Interval
    real: Interval

    @property
    def gap(self) -> float:
        """What training on synthetic images loses."""
        return self.real.value - self.synthetic.value


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
        real: real training images, of no patient in the test; the upper bound, best of as many
            images as there are samples.
        test: real test images.
        patients: (N,) of the test images, drawn in the bootstrap.

    Raises:
        DataError: a set lacks a class of the test images, or these are of one class.
    """
    return ProbeMetrics(
        probe_auroc(synthetic, test, patients, name="synthetic"),
        probe_auroc(real, test, patients, name="real training"),
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
            f"a probe needs {name} images of the same two classes or more as the test images: "
            f"they have classes {found.tolist()}, the test images {classes.tolist()}"
        )
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=1000))
    probe.fit(training.points.astype(np.float64), training.labels)
    probabilities = probe.predict_proba(test.points.astype(np.float64))
    truth = np.searchsorted(classes, test.labels)
    return bootstrap(macro_auroc, truth, probabilities, patients)
