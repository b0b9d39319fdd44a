"""A privacy check for each synthetic image: how near it comes to an image the generator learned
from.

Three things are asked, since none of them sees every kind of copy
(`ml.gan.evaluation.memorisation`): pixels,
embeddings and a perceptual hash, each of the image and of its mirror image, since a mirrored copy
is
a copy too. Distances mean something only beside those of real images that the generator never saw:
those of the validation split. The test split is not opened, for a classifier may learn from the
images that pass, and is measured on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ml.data.loading import ImageSet, load_images
from ml.data.manifest import ImageRecord, in_split, real_images
from ml.data.near_duplicates import Hashes, close_to
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, counted
from ml.gan.evaluation.distances import (
    Floats,
    Points,
    distances,
    nearest,
    neighbour_radii,
    pixel_points,
)
from ml.gan.evaluation.embedding_cache import EmbeddingCache
from ml.gan.evaluation.features import Embeddings, FeatureSpace
from ml.gan.evaluation.memorisation import hash_all, nearest_percentiles
from ml.gan.evaluation.precision_recall import NEIGHBOURS, sample_realism
from ml.gan.evaluation.real_images import embed
from ml.gan.generator_file import LoadedGenerator
from ml.imaging.types import GreyImages
from ml.training.run_folder import fingerprint

# With fewer a percentile is no percentile.
LEAST_HELD_OUT = 20
# Percent: one in a hundred images of other people comes as near to a training image.
REFUSE_BELOW = 1.0


@dataclass(frozen=True, slots=True)
class PrivacyCheck:
    """What is known of one synthetic image.

    Attributes:
        pixel_percentile: percent of the held-out real images of its class that come as near to a
            training image, by pixels; low is suspicious.
        embedding_percentile: the same in a feature space.
        near_copy: whether it is a near-duplicate of a training image, by perceptual hash; exact
            copies are.
        realism: how near it is to the training images of its class: 1 or more within the
            neighbourhood of one (Kynkaanniemi et al., 2019, section 5). No network of ours had a
            say in it.
    """

    pixel_percentile: float
    embedding_percentile: float
    near_copy: bool
    realism: float

    @property
    def nearest_percentile(self) -> float:
        """The lower, more suspicious one of the two."""
        return min(self.pixel_percentile, self.embedding_percentile)

    def refusal(self, refuse_below: float) -> str:
        """Why the image must not be given away; empty where it may.

        Args:
            refuse_below: percentile that is too low, 0 to 100.
        """
        if self.near_copy:
            return "a near copy of a training image"
        if self.nearest_percentile < refuse_below:
            return f"nearer to a training image than {100 - refuse_below:g} % of held-out images"
        return ""


class PrivacyChecker:
    """Compares images of a generator with the real images of a data set."""

    def __init__(
        self,
        loaded: LoadedGenerator,
        records: Sequence[ImageRecord],
        space: Callable[[], FeatureSpace],
        *,
        cache: EmbeddingCache | None = None,
        quiet: bool = False,
    ):
        """Read the real images of the generator's classes; they are embedded when first needed.

        Args:
            loaded: the generator.
            records: of the data set it learned from, all splits and classes.
            space: loads the feature space.
            cache: keeps the embeddings of the real images between calls.
            quiet: shows no progress.

        Raises:
            DataError: images that are unreadable or too few.
        """
        self._load_space, self._quiet = space, quiet
        self._cache = cache or EmbeddingCache(None)
        self._should_stop: Callable[[], bool] = lambda: False
        self._neighbourhoods: dict[str, tuple[Points, Floats]] = {}
        wanted = [image for image in real_images(records) if image.label in loaded.labels]
        self.training, self.held_out = (
            load_images(
                in_split(wanted, part),
                loaded.card.options.size,
                title=f"reading {part} images",
                quiet=quiet,
                enlarge=False,
            )
            for part in (Split.TRAIN, Split.VALIDATION)
        )
        for label in loaded.labels:
            _require(self.training, label, Split.TRAIN, NEIGHBOURS + 1)
            _require(self.held_out, label, Split.VALIDATION, LEAST_HELD_OUT)
        self.images_sha256 = fingerprint(self.training.records)
        # Whether these are the images that the generator learned from.
        self.complete = self.images_sha256 == loaded.card.images_sha256

    def prepare(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Embed and hash the real images now, which takes minutes, and not with the first sample.

        Args:
            should_stop: asked after every few images.

        Raises:
            XrayError: the feature space cannot be loaded.
            CheckpointError: it was to stop; nothing is kept of what was done.
        """
        self._should_stop = should_stop
        _ = self._pixels, self._embeddings, self._hashes

    def count_held_out(self, label: str) -> int:
        """How many held-out images a percentile of that class rests on."""
        return int(self.held_out.shows(label).sum())

    def check(self, images: GreyImages, label: str) -> list[PrivacyCheck]:
        """Compare images of one class, (M, S, S).

        Raises:
            XrayError: the feature space cannot be loaded.
        """
        held_out = self.held_out.shows(label)
        _, pixel_distances = self._pixels.look(images)
        points, embedding_distances = self._embeddings.look(images)
        pixel, embedding = (
            100 * nearest_percentiles(found, space.held_out[held_out])
            for space, found in (
                (self._pixels, pixel_distances),
                (self._embeddings, embedding_distances),
            )
        )
        centres, radii = self._neighbourhood(label)
        realism = sample_realism(distances(points, centres), radii)
        rows = zip(pixel, embedding, self._near_copies(images), realism, strict=True)
        return [PrivacyCheck(float(p), float(e), bool(c), float(r)) for p, e, c, r in rows]

    @cached_property
    def space(self) -> FeatureSpace:
        """Where images are embedded."""
        return self._load_space()

    @cached_property
    def _pixels(self) -> "_Nearness":
        return _Nearness(pixel_points, self.training, self.held_out)

    @cached_property
    def _embeddings(self) -> "_Nearness":
        def of_images(images: GreyImages) -> Points:
            return embed(self.space, images, title="images", quiet=True)

        def of_real_images(images: GreyImages) -> Points:
            return self._cache.points(self.space, images, self._embed_real)

        return _Nearness(of_images, self.training, self.held_out, of_real_images)

    def _embed_real(self, images: GreyImages) -> Embeddings:
        def go_on() -> None:
            if self._should_stop():
                raise CheckpointError(
                    "Stopped before the embeddings of the real images were complete."
                )

        return embed(self.space, images, title="real images", quiet=self._quiet, on_batch=go_on)

    @cached_property
    def _hashes(self) -> Hashes:
        return hash_all(self.training.images)

    def _near_copies(self, images: GreyImages) -> NDArray[np.bool_]:
        """(M,) whether an image or its mirror image is a near-duplicate of a training image."""
        straight, mirrored = (
            close_to(hash_all(side), self._hashes) for side in (images, images[:, :, ::-1])
        )
        near: NDArray[np.bool_] = straight | mirrored
        return near

    def _neighbourhood(self, label: str) -> tuple[Points, Floats]:
        """The training images of a class as points, and the radii of the balls around them."""
        if label not in self._neighbourhoods:
            own = self._embeddings.training[self.training.shows(label)]
            self._neighbourhoods[label] = own, neighbour_radii(own, NEIGHBOURS)
        return self._neighbourhoods[label]


class _Nearness:
    """How near images come to the training images in one space, and how near held-out images do."""

    def __init__(
        self,
        points_of: Callable[[GreyImages], Points],
        training: ImageSet,
        held_out: ImageSet,
        points_of_real: Callable[[GreyImages], Points] | None = None,
    ):
        """Look at the real images.

        Args:
            points_of: images as points.
            training: the images that others may be near to.
            held_out: images of other people.
            points_of_real: the same for real images, where these are looked at otherwise.
        """
        self._points_of = points_of
        of_real = points_of_real or points_of
        self.training = of_real(training.images)  # (T, F)
        self.held_out = self._look(held_out.images, of_real)[1]  # (V,)

    def look(self, images: GreyImages) -> tuple[Points, Floats]:
        """Images as points (M, F), and the distance of each, or of its mirror image, to the
        nearest training image (M,).

        A mirrored copy of a training image is as near as its mirror image is to the image; that way
        round the many training images are looked at once.
        """
        return self._look(images, self._points_of)

    def _look(
        self, images: GreyImages, points_of: Callable[[GreyImages], Points]
    ) -> tuple[Points, Floats]:
        points = points_of(images)
        sides = (points, points_of(images[:, :, ::-1]))
        return points, np.minimum(*(nearest(side, self.training)[0] for side in sides))


def _require(images: ImageSet, label: str, part: Split, least: int) -> None:
    found = int(images.shows(label).sum())
    if found < least:
        raise DataError(
            f"The {part} split has {counted(found, 'image')} of {label} with the generator's size "
            f"or more, and a privacy check needs {least}. Add images of more patients, or give "
            "--no-privacy-check."
        )
