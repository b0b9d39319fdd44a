"""The real images that generators are compared with, read and embedded once for all of them.

Samples are compared with the test split, which no training or selection used. Copies are searched
among the training images and their mirror images, since a mirrored copy is a copy too. Held-out
images are those of the validation and test splits together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.data.loading import ImageSet, load_images
from ml.data.manifest import ImageRecord, in_split, real_images
from ml.data.near_duplicates import Hashes
from ml.data.splits import Split
from ml.errors import DataError, TooFewImages, counted
from ml.gan.evaluation.comparison import DEFAULT_SAMPLES
from ml.gan.evaluation.distances import Points
from ml.gan.evaluation.divergences import BINS
from ml.gan.evaluation.features import Embeddings, FeatureSpace
from ml.gan.evaluation.memorisation import hash_all, with_mirrored
from ml.gan.evaluation.real_floor import real_floor
from ml.gan.evaluation.results import FloorMetrics
from ml.imaging.types import GreyImages
from ml.progress import progress

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
# As many as a histogram of embeddings has bins.
LEAST_IMAGES = BINS
# With fewer test images the metrics come with a note that they are rough.
FEW_IMAGES = 100


@dataclass(frozen=True, slots=True)
class Group:
    """All images, or those of one class.

    Attributes:
        label: the class; empty for all.
        real: (N,) which real images belong to it.
        samples: (M,) which samples do.
    """

    label: str
    real: Flags
    samples: Flags


@dataclass(frozen=True, slots=True)
class EmbeddedImages:
    """The real images in one feature space.

    Attributes:
        space: the feature space.
        points: (N, F) of all real images.
        mirrored: (T, F) of the training images' mirror images.
        floors: by the label of a group; missing where images are too few.
    """

    space: FeatureSpace
    points: Points
    mirrored: Points
    floors: dict[str, FloorMetrics]


@dataclass(frozen=True, slots=True)
class RealImages:
    """Real images of some classes at one size, and the plan of the samples to compare with them.

    Attributes:
        labels: the classes, in the order of the generator's class numbers.
        size: side in pixels.
        images: of all splits.
        numbers: (N,) class numbers.
        training: (N,) which are of the training split.
        test: (N,) which are of the test split.
        too_small: how many images were left out since they are smaller than `size`.
        hashes: perceptual hashes of the training images, then of their mirror images.
        classes: (M,) class number of each sample, mixed as in the test split.
        groups: all images, then each class where generators make classes on demand.
        spaces: the images' embeddings.
        seed: of every random draw.
        notes: sentences on the limits of the metrics.
    """

    labels: tuple[str, ...]
    size: int
    images: ImageSet
    numbers: Ints
    training: Flags
    test: Flags
    too_small: int
    hashes: Hashes
    classes: Ints
    groups: tuple[Group, ...]
    spaces: tuple[EmbeddedImages, ...]
    seed: int
    notes: tuple[str, ...]

    @property
    def held_out(self) -> Flags:
        """(N,) which images are of patients that no generator was trained on."""
        return ~self.training

    def like_samples(self, samples: Flags | None = None) -> Ints:
        """Numbers of training images that take the samples' place in a comparison.

        Args:
            samples: (M,) which of the samples; all by default.

        Returns:
            Each class as often as among the samples, or as often as there are training images.
        """
        random = np.random.default_rng(self.seed)
        wanted = self.classes if samples is None else self.classes[samples]
        chosen = []
        for number in np.unique(wanted):
            own = np.flatnonzero(self.training & (self.numbers == number))
            chosen.append(random.permutation(own)[: int((wanted == number).sum())])
        return np.concatenate(chosen)


def read_real_images(
    records: Sequence[ImageRecord],
    labels: Sequence[str],
    size: int,
    *,
    features: Sequence[FeatureSpace],
    samples: int = DEFAULT_SAMPLES,
    by_class: bool = False,
    seed: int = 0,
    quiet: bool = False,
) -> RealImages:
    """Read and embed the real images; those smaller than `size` are left out, as in training.

    Args:
        records: the data set's images, of all splits and classes.
        labels: the classes, in the order of the generator's class numbers.
        size: side of the generator's images, in pixels.
        features: where images are compared.
        samples: how many samples they are compared with.
        by_class: also compare each class separately.
        seed: of every random draw.
        quiet: shows no progress.

    Raises:
        DataError: images that are missing or unreadable.
        TooFewImages: the training or the test split has too few of them.
    """
    wanted = [record for record in real_images(records) if record.label in labels]
    images = _load(wanted, size, quiet=quiet)
    splits = np.array([record.split for record in images.records])
    training, test = splits == Split.TRAIN, splits == Split.TEST
    _require(training, test, labels, size, samples)
    numbers = images.numbers_in(labels)
    classes = _classes_of_samples(numbers[test], samples, seed)
    groups = _groups(labels, numbers, classes, by_class=by_class)
    both_ways = with_mirrored(images.images[training])
    mirror_images = both_ways[training.sum() :]
    rough = test.sum() < FEW_IMAGES
    notes = [f"Only {test.sum()} test images, so all metrics are rough."] if rough else []
    spaces = []
    for space in features:
        points = embed(space, images.images, title="real images", quiet=quiet)
        mirrored = embed(space, mirror_images, title="mirrored images", quiet=quiet)
        floors, reasons = _floors(points, images, test, groups, seed)
        notes += [f"{space.title}: {reason}" for reason in reasons]
        spaces.append(EmbeddedImages(space, points, mirrored, floors))
    return RealImages(
        labels=tuple(labels),
        size=size,
        images=images,
        numbers=numbers,
        training=training,
        test=test,
        too_small=len(wanted) - len(images),
        hashes=hash_all(both_ways),
        classes=classes,
        groups=tuple(groups),
        spaces=tuple(spaces),
        seed=seed,
        notes=tuple(notes),
    )


def _load(wanted: Sequence[ImageRecord], size: int, *, quiet: bool) -> ImageSet:
    """The images of all splits, one split after the other."""
    ordered = [record for part in Split for record in in_split(wanted, part)]
    return load_images(ordered, size, title="reading images", quiet=quiet, enlarge=False)


def _classes_of_samples(test: Ints, samples: int, seed: int) -> Ints:
    """Class numbers of the samples, in the class mix of the test images: (M,)."""
    # Shuffled before repeating, so that any number of samples has the mix of the test images.
    shuffled = np.random.default_rng(seed).permutation(test)
    return np.resize(shuffled, samples)


def _groups(labels: Sequence[str], numbers: Ints, classes: Ints, *, by_class: bool) -> list[Group]:
    """All images, then each class where classes are compared separately."""
    groups = [Group("", np.ones(len(numbers), bool), np.ones(len(classes), bool))]
    if by_class:
        groups += [Group(label, numbers == k, classes == k) for k, label in enumerate(labels)]
    return groups


def _require(training: Flags, test: Flags, labels: Sequence[str], size: int, samples: int) -> None:
    if samples < LEAST_IMAGES:
        raise DataError(
            f"An evaluation needs at least {LEAST_IMAGES} samples, not {samples}. Give more."
        )
    for chosen, part in ((training, Split.TRAIN), (test, Split.TEST)):
        if chosen.sum() < LEAST_IMAGES:
            raise TooFewImages(
                f"The {part} split has {counted(chosen.sum(), 'image')} of {', '.join(labels)} "
                f"with {size} px or more on each side, and an evaluation needs {LEAST_IMAGES}. Add "
                "images of more patients."
            )


def _floors(
    points: Points, images: ImageSet, test: Flags, groups: Sequence[Group], seed: int
) -> tuple[dict[str, FloorMetrics], list[str]]:
    """The floor of each group at the number of images of its FID, and reasons for missing ones."""
    floors, reasons = {}, []
    for group in groups:
        count = min(int((group.real & test).sum()), int(group.samples.sum()))
        try:
            floors[group.label] = real_floor(
                points[group.real], images.patients[group.real], count, seed=seed
            )
        except DataError as problem:
            reasons.append(f"No floor of {group.label or 'all images'}. {problem}")
    return floors, reasons


def embed(
    space: FeatureSpace,
    images: GreyImages,
    *,
    title: str,
    quiet: bool,
    on_batch: Callable[[], None] = lambda: None,
) -> Embeddings:
    """Embed images (N, S, S) behind a progress bar: (N, F).

    Args:
        space: the feature space.
        images: grey levels.
        title: of the images, for the bar.
        quiet: shows no bar.
        on_batch: called after every few images; an exception from it ends the embedding.
    """
    title = f"embedding {title} in {space.name}, images"
    with progress(title, len(images), hidden=quiet) as counter:

        def on_step(some: int) -> None:
            counter.advance(some)
            on_batch()

        return space.embed(images, on_step=on_step)
