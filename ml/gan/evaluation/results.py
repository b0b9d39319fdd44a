"""The metrics of a generator as typed contracts, and their JSON. No torch here.

The modules of this package compute these metrics and return them. A metric that is not defined is
NaN in Python and null in JSON.
"""

from ml.evaluation.metrics import Interval
from ml.json_model import JsonFloat, JsonModel


class DivergenceMetrics(JsonModel):
    """Divergences of samples from real images; all 0 where both are distributed alike.

    Attributes:
        kl_real_samples: KL of the samples from the real images: high where samples miss something.
        kl_samples_real: KL of the real images from the samples: high where samples invent
            something.
        js: Jensen-Shannon divergence, 0 to log 2.
        wasserstein: Wasserstein-1 distance.
    """

    kl_real_samples: JsonFloat
    kl_samples_real: JsonFloat
    js: JsonFloat
    wasserstein: JsonFloat


class FidMetric(JsonModel):
    """A Frechet inception distance.

    Attributes:
        value: the distance of `n` images to `n` others.
        error: its standard error.
        low: lower end of the 95 % interval, never below 0.
        high: upper end.
        n: images of each side.
    """

    value: JsonFloat
    error: JsonFloat
    low: JsonFloat
    high: JsonFloat
    n: int


class KidMetric(JsonModel):
    """A kernel inception distance; slightly negative values occur where the sets are alike.

    Attributes:
        value: mean over random subsets.
        low: lower end of the 95 % bootstrap interval.
        high: upper end.
        spread: standard deviation over the subsets.
        subset_size: images of each side in a subset.
        real: number of real images.
        samples: number of samples.
    """

    value: JsonFloat
    low: JsonFloat
    high: JsonFloat
    spread: JsonFloat
    subset_size: int
    real: int
    samples: int


class ManifoldMetrics(JsonModel):
    """Precision, recall, density and coverage; they depend on the numbers of images.

    Attributes:
        precision: share of samples in the real images' neighbourhood.
        recall: share of real images in the samples' neighbourhood.
        density: mean number of balls around real images that contain a sample, divided by k; may
            exceed 1. Unlike precision it is not changed by one outlying real image.
        coverage: share of real images with a sample in their ball.
        real: number of real images.
        samples: number of samples.
    """

    precision: JsonFloat
    recall: JsonFloat
    density: JsonFloat
    coverage: JsonFloat
    real: int
    samples: int


class FloorMetrics(JsonModel):
    """The distances between two sets of real images: the best that a generator can reach.

    Attributes:
        fid: mean over random sets.
        fid_spread: standard deviation over them.
        kid: mean over random sets.
        kid_spread: standard deviation over them.
        n: images of each set.
        repeats: how often two sets were drawn.
    """

    fid: JsonFloat
    fid_spread: JsonFloat
    kid: JsonFloat
    kid_spread: JsonFloat
    n: int
    repeats: int

    def ratio(self, fid: FidMetric) -> float:
        """Floor divided by FID: 1 where samples are as near as other real images, 0 if far away.

        Raises:
            ValueError: the two were measured at different numbers of images.
        """
        if fid.n != self.n:
            raise ValueError(f"An FID of {fid.n} images has no floor of {self.n} images.")
        return self.fid / fid.value


class RegionCopying(JsonModel):
    """The test for data copying in regions of the feature space.

    Attributes:
        value: mean of the regions' statistics, weighted by their held-out images.
        lowest: the statistic of the region with the most copying.
        cells: number of regions with enough images to count.
    """

    value: JsonFloat
    lowest: JsonFloat
    cells: int


class MemorisationMetrics(JsonModel):
    """Whether samples are nearer to training images than images of other people are.

    Attributes:
        percentiles: quantiles of the samples' nearest percentiles, by name.
        suspicious: share of samples with a low percentile.
        copying: the test statistic for data copying in the whole space.
        copying_by_cell: the same in regions of the space.
    """

    percentiles: dict[str, JsonFloat]
    suspicious: JsonFloat
    copying: JsonFloat
    copying_by_cell: RegionCopying


class ProbeMetrics(JsonModel):
    """Macro AUROC on real test images of a probe trained on samples, and of one on real images.

    Attributes:
        synthetic: of the probe trained on samples.
        real: of the probe trained on as many real images.
        gap: what training on samples loses.
        samples: number of samples.
        real_images: number of real training images.
    """

    synthetic: Interval
    real: Interval
    gap: JsonFloat
    samples: int
    real_images: int


class RealGroupMetrics(JsonModel):
    """The metrics of real training images in the samples' place."""

    kid: KidMetric
    fid: FidMetric
    manifold: ManifoldMetrics
    diversity: JsonFloat
    divergences: DivergenceMetrics


class GroupMetrics(JsonModel):
    """Samples of a group against its test images; None where a side has too few images.

    Attributes:
        kid: kernel inception distance.
        fid: Frechet inception distance.
        manifold: precision, recall, density, coverage.
        diversity: mean distance of two samples over that of two real images.
        divergences: along the principal axes of the real images.
        floor: what real images reach against other real images.
        ratio: the floor's FID divided by the samples'.
        real: training images in the samples' place.
    """

    kid: KidMetric | None = None
    fid: FidMetric | None = None
    manifold: ManifoldMetrics | None = None
    diversity: JsonFloat | None = None
    divergences: DivergenceMetrics | None = None
    floor: FloorMetrics | None = None
    ratio: JsonFloat | None = None
    real: RealGroupMetrics | None = None


class SpaceMetrics(GroupMetrics):
    """The metrics in one feature space, over all classes and for each class.

    Attributes:
        name: of the feature space.
        sha256: of its network's weights.
        features: length of an embedding.
        memorisation: nearness to training images.
        probe: None for a generator that does not make classes on demand.
        per_class: by class; None where a class has too few images.
    """

    name: str
    sha256: str
    features: int
    memorisation: MemorisationMetrics
    probe: ProbeMetrics | None
    per_class: dict[str, GroupMetrics | None]

    @property
    def title(self) -> str:
        """The space's name with the start of its digest, as `FeatureSpace.title`."""
        return f"{self.name} ({self.sha256[:12]})"


class RealPixelMetrics(JsonModel):
    """The pixel metrics of real images.

    Attributes:
        divergences: of training images in the samples' place.
        diversity: of the same images.
        near_copies: how many held-out images are near-duplicates of a training image.
        images: number of training images in the samples' place.
    """

    divergences: DivergenceMetrics
    diversity: JsonFloat
    near_copies: int
    images: int


class PixelMetrics(JsonModel):
    """The metrics that need no network.

    Attributes:
        divergences: of the grey levels.
        diversity: of the images made small.
        exact_copies: samples that equal a training image or its mirror image.
        near_copies: samples that are near-duplicates of one.
        real: the same of real images.
    """

    divergences: DivergenceMetrics
    diversity: JsonFloat
    exact_copies: int
    near_copies: int
    real: RealPixelMetrics


class SampleCounts(JsonModel):
    """The samples of an evaluation.

    Attributes:
        images: how many.
        first_seed: the others follow it.
        classes: samples by class; empty for a generator that mixes its classes.
    """

    images: int
    first_seed: int
    classes: dict[str, int]


class RealCounts(JsonModel):
    """The real images of an evaluation.

    Attributes:
        split: the split that samples were compared with.
        images: its images.
        patients: its patients.
        classes: its images by class.
        training_images: images among which copies were searched.
        held_out_images: images of the validation and test splits.
        too_small: images that were left out since they are smaller than `size`.
        size: side in pixels.
        seed: of every random draw.
    """

    split: str
    images: int
    patients: int
    classes: dict[str, int]
    training_images: int
    held_out_images: int
    too_small: int
    size: int
    seed: int


class GeneratorEvaluation(JsonModel):
    """All metrics of a generator against real images.

    Attributes:
        samples: what was generated.
        real: what it was compared with.
        pixels: metrics that need no network.
        spaces: the metrics in each feature space.
        notes: sentences on the limits of these metrics.
    """

    samples: SampleCounts
    real: RealCounts
    pixels: PixelMetrics
    spaces: list[SpaceMetrics]
    notes: list[str]
