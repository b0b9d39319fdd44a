"""Statistics of the leave-site-out measurement: pure functions of predictions, with intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ml.evaluation import metrics
from ml.evaluation.metrics import BOOTSTRAP_DRAWS, Floats, Interval, Ints

Flags = NDArray[np.bool_]
# Share of an inner site's normals that the threshold of sensitivity lets pass.
INNER_SPECIFICITY = 0.90


@dataclass(frozen=True, slots=True)
class SitePredictions:
    """What one classifier says about images, and what is known of them.

    Attributes:
        labels: the classes of the classifier, in the order of its outputs.
        truth: (N,) labels of the images; one that is no class is another finding.
        sites: (N,).
        patients: (N,) keys.
        probabilities: (N, C).
        definite: (N,) whether the classifier gives a predicted class and does not abstain.
    """

    labels: tuple[str, ...]
    truth: NDArray[np.str_]
    sites: NDArray[np.str_]
    patients: NDArray[np.str_]
    probabilities: Floats
    definite: Flags

    def where(self, chosen: Flags | Ints) -> "SitePredictions":
        """The predictions of some images, chosen by flags (N,) or by their places."""
        return replace(
            self,
            truth=self.truth[chosen],
            sites=self.sites[chosen],
            patients=self.patients[chosen],
            probabilities=self.probabilities[chosen],
            definite=self.definite[chosen],
        )

    @property
    def predicted(self) -> NDArray[np.str_]:
        """(N,) the most probable classes."""
        names: NDArray[np.str_] = np.array(self.labels)[self.probabilities.argmax(axis=1)]
        return names

    @property
    def is_known(self) -> Flags:
        """(N,) whether the images are of one of the classes."""
        return np.isin(self.truth, self.labels)

    def relative(self, positive: str, negative: str) -> Floats:
        """(N,) probability of one class among two."""
        p, n = (self.probabilities[:, self.labels.index(label)] for label in (positive, negative))
        share: Floats = p / np.clip(p + n, 1e-12, None)
        return share

    def patients_of(self, label: str) -> int:
        """Patients with an image of a class."""
        return len(set(self.patients[self.truth == label].tolist()))


Measure = tuple[Flags, Callable[[Ints], float]]


def share_of(images: Flags, hits: Flags) -> Measure:
    """The share of some images (N,) that hits (N,) say yes of."""
    return images, lambda chosen: float(hits[chosen].mean())


def auroc_between(predictions: SitePredictions, positive: str, negative: str) -> Measure:
    """The AUROC of one class against another, by their relative probability."""
    is_positive = predictions.truth == positive
    score = predictions.relative(positive, negative)
    images = is_positive | (predictions.truth == negative)
    return images, lambda chosen: metrics.auroc(is_positive[chosen], score[chosen])


def calibration_of(predictions: SitePredictions) -> Measure:
    """The expected calibration error of the definite predictions."""
    numbers = np.array(
        [predictions.labels.index(x) if x in predictions.labels else -1 for x in predictions.truth]
    )
    return predictions.definite, lambda chosen: metrics.calibration_error(
        numbers[chosen], predictions.probabilities[chosen]
    )


def with_intervals(
    measures: Mapping[str, Measure], patients: NDArray[np.str_], draws: int = BOOTSTRAP_DRAWS
) -> dict[str, Interval]:
    """Measures with 95 % intervals from the same draws of patients.

    Args:
        measures: by name: (N,) the images it is of, and its value for positions of such images.
        patients: (N,) keys.
        draws: of the bootstrap.

    Returns:
        By name; `n` counts the images that a measure is of. NaN where there is none.
    """

    def each(images: Ints) -> Floats:
        own = [images[of[images]] for of, _ in measures.values()]
        values = zip(measures.values(), own, strict=True)
        return np.array([value(one) if len(one) else np.nan for (_, value), one in values])

    everyone = np.zeros(len(patients), np.int64)
    found = metrics.bootstrap_each(each, everyone, patients, draws=draws)
    return {
        name: replace(interval, n=int(of.sum()))
        for (name, (of, _)), interval in zip(measures.items(), found, strict=True)
    }


def class_pairs(predictions: SitePredictions, least_patients: int) -> list[tuple[str, str]]:
    """The pairs of classes that have enough patients to be compared."""
    present = [x for x in predictions.labels if predictions.patients_of(x) >= least_patients]
    return list(combinations(present, 2))


def nested_threshold(inner: Sequence[SitePredictions], target: str, healthy: str) -> float | None:
    """The threshold of relative probability that holds the specificity at every inner site.

    Args:
        inner: of each inner site its images, by a classifier that learned neither from this site
            nor from the one that the threshold is for.
        target: the class to be detected.
        healthy: the class to be spared.

    Returns:
        The highest of the inner sites' thresholds; None where no inner site has healthy images.
    """
    scores = [
        one.relative(target, healthy)[one.truth == healthy]
        for one in inner
        if (one.truth == healthy).any()
    ]
    if not scores:
        return None
    return max(float(np.quantile(own, INNER_SPECIFICITY, method="higher")) for own in scores)


def join_predictions(parts: Sequence[SitePredictions]) -> SitePredictions:
    """Predictions of several classifiers with the same classes, one after the other."""
    return SitePredictions(
        parts[0].labels,
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("truth", "sites", "patients", "probabilities", "definite")
        ),
    )
