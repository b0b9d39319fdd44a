"""What an evaluation of a generator says: the contract of its JSON. No torch here."""

from ml.evaluation.metrics import Interval
from ml.json_model import JsonFloat, JsonModel


class DivergenceMetrics(JsonModel):
    """Divergences between samples and real images."""

    js: JsonFloat
    kl_real_samples: JsonFloat
    kl_samples_real: JsonFloat
    wasserstein: JsonFloat


class FidMetric(JsonModel):
    """A Frechet inception distance; `error` is its standard error."""

    value: JsonFloat
    error: JsonFloat
    low: JsonFloat
    high: JsonFloat
    n: int


class KidMetric(JsonModel):
    """A kernel inception distance; `spread` is its standard deviation over the subsets."""

    value: JsonFloat
    low: JsonFloat
    high: JsonFloat
    spread: JsonFloat
    subset_size: int
    real: int
    samples: int


class ManifoldMetrics(JsonModel):
    """Precision, recall, density and coverage."""

    precision: JsonFloat
    recall: JsonFloat
    density: JsonFloat
    coverage: JsonFloat
    real: int
    samples: int


class FloorMetrics(JsonModel):
    """The distance between halves of the real images: what no generator falls below."""

    fid: JsonFloat
    fid_spread: JsonFloat
    kid: JsonFloat
    kid_spread: JsonFloat
    n: int
    repeats: int


class RegionCopying(JsonModel):
    """The test for data copying in regions of the feature space."""

    value: JsonFloat
    lowest: JsonFloat
    cells: int


class MemorisationMetrics(JsonModel):
    """Whether samples are nearer to training images than images of other people are."""

    percentiles: dict[str, JsonFloat]
    suspicious: JsonFloat
    copying: JsonFloat
    copying_by_cell: RegionCopying


class ProbeMetrics(JsonModel):
    """AUROC of a probe trained on samples and of one trained on as many real images."""

    synthetic: Interval
    real: Interval
    gap: JsonFloat
    samples: int
    real_images: int


class RealGroupMetrics(JsonModel):
    """Training images in the samples' place."""

    kid: KidMetric
    fid: FidMetric
    manifold: ManifoldMetrics
    diversity: JsonFloat
    divergences: DivergenceMetrics


class GroupMetrics(JsonModel):
    """Samples of a group against its test images; None where a side has too few images."""

    kid: KidMetric | None = None
    fid: FidMetric | None = None
    manifold: ManifoldMetrics | None = None
    diversity: JsonFloat | None = None
    divergences: DivergenceMetrics | None = None
    floor: FloorMetrics | None = None
    ratio: JsonFloat | None = None
    real: RealGroupMetrics | None = None


class SpaceMetrics(GroupMetrics):
    """The metrics in one feature space."""

    name: str
    sha256: str
    features: int
    memorisation: MemorisationMetrics
    probe: ProbeMetrics | None
    per_class: dict[str, GroupMetrics | None]


class RealPixelMetrics(JsonModel):
    """Held-out real images, compared pixel by pixel."""

    divergences: DivergenceMetrics
    diversity: JsonFloat
    near_copies: int
    images: int


class PixelMetrics(JsonModel):
    """Samples, compared pixel by pixel."""

    divergences: DivergenceMetrics
    diversity: JsonFloat
    exact_copies: int
    near_copies: int
    real: RealPixelMetrics


class SampleCounts(JsonModel):
    """How many samples were drawn, of which classes, from which seed on."""

    images: int
    first_seed: int
    classes: dict[str, int]


class RealCounts(JsonModel):
    """The real images that samples were compared with."""

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
        notes: sentences on what the metrics do not say.
    """

    samples: SampleCounts
    real: RealCounts
    pixels: PixelMetrics
    spaces: list[SpaceMetrics]
    notes: list[str]
