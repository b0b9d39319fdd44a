"""Evaluation of a generator: are its images like real ones, as varied, and not memorised?

A metric depends on the feature space, on the numbers of images and on the seeds, which are recorded
with it. Each metric is also computed with real training images in the samples' place, which shows
its value where nothing is synthetic.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.data.manifest import ImageRecord
from ml.data.near_duplicates import close_to
from ml.gan.evaluation.comparison import DEFAULT_SAMPLES
from ml.gan.evaluation.distances import Points, diversity, pixel_points
from ml.gan.evaluation.divergences import embedding_divergences, pixel_divergences
from ml.gan.evaluation.features import FeatureSpace
from ml.gan.evaluation.fid import fid
from ml.gan.evaluation.kid import kid
from ml.gan.evaluation.measured_generator import MeasuredGenerator
from ml.gan.evaluation.memorisation import closeness, copying_by_cell, exact_copies, hash_all
from ml.gan.evaluation.patient_groups import Groups
from ml.gan.evaluation.precision_recall import manifold
from ml.gan.evaluation.real_images import (
    LEAST_IMAGES,
    EmbeddedImages,
    Group,
    RealImages,
    embed,
    read_real_images,
)
from ml.gan.evaluation.results import (
    GroupMetrics,
    MemorisationMetrics,
    PixelMetrics,
    ProbeMetrics,
    RealCounts,
    RealGroupMetrics,
    RealPixelMetrics,
    SampleCounts,
    SpaceMetrics,
)
from ml.gan.evaluation.train_synthetic_test_real import LabelledPoints, synthetic_against_real
from ml.gan.generator_card import ReleasedGeneratorCard
from ml.gan.generator_file import LoadedGenerator
from ml.gan.sampling import sample_images
from ml.imaging.types import GreyImages
from ml.training.run_folder import fingerprint

# Seeds that no training selected by, and that no one types by hand.
FIRST_SEED = 2_000_000_000
# A sample is suspicious where only this share of held-out images is as near to a training image.
SUSPICIOUS = 0.05
_QUANTILES = {"lowest": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5}


def evaluate_gan(
    loaded: LoadedGenerator,
    records: Sequence[ImageRecord],
    *,
    features: Sequence[FeatureSpace],
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    quiet: bool = False,
) -> MeasuredGenerator:
    """Evaluate a generator on a data set.

    Args:
        loaded: the generator.
        records: the data set's images, of all splits and classes.
        features: the feature spaces in which images are compared.
        samples: how many images are generated.
        seed: of every random draw; the samples' own seeds start at `FIRST_SEED`.
        quiet: shows no progress.

    Raises:
        DataError: images that are missing, unreadable or too few.
    """
    real = read_real_images(
        records,
        loaded.labels,
        loaded.card.options.size,
        features=features,
        samples=samples,
        by_class=makes_classes(loaded),
        seed=seed,
        quiet=quiet,
    )
    return measure_generator(loaded, real, quiet=quiet)


def makes_classes(loaded: LoadedGenerator) -> bool:
    """Whether a generator makes each of several classes on demand."""
    return loaded.card.options.conditional and len(loaded.labels) > 1


def measure_generator(
    loaded: LoadedGenerator, real: RealImages, *, quiet: bool = False
) -> MeasuredGenerator:
    """Evaluate a generator against real images that were read before.

    Args:
        loaded: the generator.
        real: images of its classes, at its size.
        quiet: shows no progress.
    """
    seeds = range(FIRST_SEED, FIRST_SEED + len(real.classes))
    images = sample_images(
        loaded.network, seeds, real.classes.tolist(), length=loaded.card.options.latent
    )
    return MeasuredGenerator(
        generator=ReleasedGeneratorCard(sha256=loaded.sha256, **dict(loaded.card)),
        samples=SampleCounts(
            images=len(images),
            first_seed=FIRST_SEED,
            classes=_by_class(real, real.classes) if makes_classes(loaded) else {},
        ),
        real=_count_real(real),
        pixels=_pixel_metrics(images, real),
        spaces=[_space_metrics(loaded, images, real, one, quiet) for one in real.spaces],
        notes=[*real.notes, *_notes(loaded, real)],
    )


def _count_real(real: RealImages) -> RealCounts:
    test = real.images.patients[real.test]
    return RealCounts(
        split="test",
        images=int(real.test.sum()),
        patients=len(set(test.tolist())),
        classes=_by_class(real, real.numbers[real.test]),
        training_images=int(real.training.sum()),
        held_out_images=int(real.held_out.sum()),
        too_small=real.too_small,
        size=real.size,
        seed=real.seed,
    )


def _by_class(real: RealImages, numbers: NDArray[np.int64]) -> dict[str, int]:
    counts = np.bincount(numbers, minlength=len(real.labels)).tolist()
    return dict(zip(real.labels, counts, strict=True))


def _notes(loaded: LoadedGenerator, real: RealImages) -> list[str]:
    notes = []
    training = [r for r, own in zip(real.images.records, real.training, strict=True) if own]
    if fingerprint(training) != loaded.card.images_sha256:
        notes.append(
            "The generator was trained on other images than this data set's training split. Copies "
            "of those are not found, and its training images may be among the test images."
        )
    seen = set(loaded.card.options.seen_spaces) & {one.space.name for one in real.spaces}
    if seen:
        names = ", ".join(sorted(seen))
        notes.append(f"The critic saw {names}: the generator looks better there than it is.")
    if missing := _missing_classes(real):
        notes.append(f"No test or training image of this size is {' or '.join(missing)}.")
    if len(loaded.labels) > 1 and not makes_classes(loaded):
        counts = _by_class(real, real.numbers[real.test])
        mix = ", ".join(f"{count} {label}" for label, count in counts.items())
        notes.append(
            "The generator mixes its classes freely, after a training that showed each equally "
            f"often. The test images are {mix}."
        )
    return notes


def _missing_classes(real: RealImages) -> list[str]:
    """Classes that the test split or the training split has no image of."""
    in_both = set(real.numbers[real.test]) & set(real.numbers[real.training])
    return [label for number, label in enumerate(real.labels) if number not in in_both]


def _pixel_metrics(images: GreyImages, real: RealImages) -> PixelMetrics:
    """The metrics of the images themselves."""
    test, training = real.images.images[real.test], real.images.images[real.training]
    stand_ins = real.images.images[real.like_samples()]
    held_out = hash_all(real.images.images[real.held_out])
    return PixelMetrics(
        divergences=pixel_divergences(test, images),
        diversity=diversity(pixel_points(images), pixel_points(test)),
        exact_copies=int(exact_copies(images, training).sum()),
        near_copies=int(close_to(hash_all(images), real.hashes).sum()),
        real=RealPixelMetrics(
            divergences=pixel_divergences(test, stand_ins),
            diversity=diversity(pixel_points(stand_ins), pixel_points(test)),
            # Of held-out images: a training image would be its own copy.
            near_copies=int(close_to(held_out, real.hashes).sum()),
            images=len(stand_ins),
        ),
    )


def _space_metrics(
    loaded: LoadedGenerator,
    images: GreyImages,
    real: RealImages,
    embedded: EmbeddedImages,
    quiet: bool,
) -> SpaceMetrics:
    space = embedded.space
    points = embed(space, images, title="samples", quiet=quiet)
    by_group = {group.label: _group_metrics(points, real, embedded, group) for group in real.groups}
    everything = by_group.pop("") or GroupMetrics()
    return SpaceMetrics(
        name=space.name,
        sha256=space.sha256,
        features=space.features,
        **dict(everything),
        memorisation=_memorisation(points, real, embedded),
        probe=_probe(points, real, embedded) if makes_classes(loaded) else None,
        per_class=by_group,
    )


def _group_metrics(
    points: Points, real: RealImages, embedded: EmbeddedImages, group: Group
) -> GroupMetrics | None:
    """The samples of a group against its test images; None where either are too few."""
    test = group.real & real.test
    if min(test.sum(), group.samples.sum()) < LEAST_IMAGES:
        return None
    of_test, patients = embedded.points[test], real.images.patients[test]
    metrics = _compare(of_test, points[group.samples], patients, real.seed)
    floor = embedded.floors.get(group.label)
    stand_ins = real.like_samples(group.samples)
    in_their_place = None
    if len(stand_ins) >= LEAST_IMAGES:
        in_their_place = _compare(of_test, embedded.points[stand_ins], patients, real.seed)
    return GroupMetrics(
        **dict(metrics),
        floor=floor,
        ratio=floor.ratio(metrics.fid) if floor else None,
        real=in_their_place,
    )


def _compare(real: Points, samples: Points, patients: Groups, seed: int) -> RealGroupMetrics:
    """All metrics that compare two sets of embeddings."""
    distance = fid(real, samples, patients=patients, seed=seed)
    # As many of either side, or recall would depend on the numbers.
    random = np.random.default_rng(seed)
    one, other = (side[random.permutation(len(side))[: distance.n]] for side in (real, samples))
    return RealGroupMetrics(
        kid=kid(real, samples, patients=patients, seed=seed),
        fid=distance,
        manifold=manifold(one, other),
        diversity=diversity(samples, real),
        divergences=embedding_divergences(real, samples),
    )


def _memorisation(
    points: Points, real: RealImages, embedded: EmbeddedImages
) -> MemorisationMetrics:
    """Compare the samples' nearness to training images with that of held-out images."""
    training = np.concatenate([embedded.points[real.training], embedded.mirrored])
    held_out = embedded.points[real.held_out]
    close = closeness(points, held_out, training)
    quantiles = np.quantile(close.percentiles, list(_QUANTILES.values())).tolist()
    return MemorisationMetrics(
        percentiles=dict(zip(_QUANTILES, quantiles, strict=True)),
        suspicious=float((close.percentiles <= SUSPICIOUS).mean()),
        copying=close.copying,
        copying_by_cell=copying_by_cell(points, held_out, training, seed=real.seed),
    )


def _probe(points: Points, real: RealImages, embedded: EmbeddedImages) -> ProbeMetrics | None:
    """Train on samples, test on real images; None where the real images lack a class."""
    stand_ins = real.like_samples()
    if _missing_classes(real):
        return None
    return synthetic_against_real(
        LabelledPoints(points, real.classes),
        LabelledPoints(embedded.points[stand_ins], real.numbers[stand_ins]),
        LabelledPoints(embedded.points[real.test], real.numbers[real.test]),
        real.images.patients[real.test],
    )
