"""A generator in metrics: are its images like real ones, as varied, and not learned by heart?

A metric depends on the feature space, on the numbers of images and on the seeds, which stand beside
it. Real images of the training split take the samples' place once, and show what the same measures
say where nothing is synthetic.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.data.manifest import ImageRecord
from ml.data.near_duplicates import close_to
from ml.gan.evaluation.distances import Points, diversity, pixel_points
from ml.gan.evaluation.divergences import embedding_divergences, pixel_divergences
from ml.gan.evaluation.features import FeatureSpace
from ml.gan.evaluation.fid import Fid, fid
from ml.gan.evaluation.kid import kid
from ml.gan.evaluation.memorisation import closeness, copying_by_cell, exact_copies, hash_all
from ml.gan.evaluation.patient_groups import Groups
from ml.gan.evaluation.precision_recall import manifold
from ml.gan.evaluation.real_images import (
    LEAST_IMAGES,
    SAMPLES,
    EmbeddedImages,
    Group,
    RealImages,
    embed,
    read_real_images,
)
from ml.gan.evaluation.train_synthetic_test_real import LabelledPoints, synthetic_against_real
from ml.gan.generator_file import LoadedGenerator
from ml.gan.sampling import sample_images
from ml.imaging.types import GreyImages
from ml.json_model import finite
from ml.training.run_folder import fingerprint

# Seeds that no tick of a training chose by, and that nobody types.
FIRST_SEED = 2_000_000_000
# A sample is suspicious that lies as near to a training image as this share of held-out images.
SUSPICIOUS = 0.05
_QUANTILES = {"lowest": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5}


def evaluate_gan(
    loaded: LoadedGenerator,
    records: Sequence[ImageRecord],
    *,
    features: Sequence[FeatureSpace],
    samples: int = SAMPLES,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """All metrics of a generator, as JSON values.

    Args:
        loaded: the generator.
        records: the data set's images, of all splits and classes.
        features: where images are compared; each gives metrics of its own.
        samples: how many images the generator makes.
        seed: of every draw; the samples' own seeds start at `FIRST_SEED`.
        quiet: shows no progress.

    Returns:
        As `measure_generator`.

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
) -> dict[str, Any]:
    """All metrics of a generator against real images that were read before.

    Args:
        loaded: the generator.
        real: images of its classes, at its size.
        quiet: shows no progress.

    Returns:
        JSON values, None where a metric is not defined: `generator` (its card), `samples` and
        `real` (numbers of images and seeds), `pixels` (what needs no network), `spaces` (the
        metrics in each feature space) and `notes` (sentences on what the metrics do not say).
    """
    seeds = range(FIRST_SEED, FIRST_SEED + len(real.classes))
    images = sample_images(
        loaded.network, seeds, real.classes.tolist(), length=loaded.card.options.latent
    )
    evaluation: dict[str, Any] = finite(
        {
            "generator": {"sha256": loaded.sha256, **loaded.card.as_json()},
            "samples": {
                "images": len(images),
                "first_seed": FIRST_SEED,
                "classes": _by_class(real, real.classes) if makes_classes(loaded) else {},
            },
            "real": describe_real(real),
            "pixels": _pixel_metrics(images, real),
            "spaces": [_space_metrics(loaded, images, real, one, quiet) for one in real.spaces],
            "notes": [*real.notes, *_notes(loaded, real)],
        }
    )
    return evaluation


def describe_real(real: RealImages) -> dict[str, Any]:
    """What samples were compared with, as JSON values."""
    test = real.images.patients[real.test]
    return {
        "split": "test",
        "images": int(real.test.sum()),
        "patients": len(set(test.tolist())),
        "classes": _by_class(real, real.numbers[real.test]),
        "training_images": int(real.training.sum()),
        "held_out_images": int(real.held_out.sum()),
        "too_small": real.too_small,
        "size": real.size,
        "seed": real.seed,
    }


def _by_class(real: RealImages, numbers: NDArray[np.int64]) -> dict[str, int]:
    counts = np.bincount(numbers, minlength=len(real.labels)).tolist()
    return dict(zip(real.labels, counts, strict=True))


def _notes(loaded: LoadedGenerator, real: RealImages) -> list[str]:
    notes = []
    training = [r for r, own in zip(real.images.records, real.training, strict=True) if own]
    if fingerprint(training) != loaded.card.images_sha256:
        notes.append(
            "The generator learned from other images than this data set's training split: copies "
            "of those are not found, and its training images may be among the test images."
        )
    if missing := _missing_classes(real):
        notes.append(f"No test or training image of this size is {' or '.join(missing)}.")
    if len(loaded.labels) > 1 and not makes_classes(loaded):
        counts = _by_class(real, real.numbers[real.test])
        mix = ", ".join(f"{count} {label}" for label, count in counts.items())
        notes.append(
            "The generator mixes its classes as it likes, after a training that showed each as "
            f"often; the test images are {mix}."
        )
    return notes


def _missing_classes(real: RealImages) -> list[str]:
    """Classes that the test split or the training split has no image of."""
    in_both = set(real.numbers[real.test]) & set(real.numbers[real.training])
    return [label for number, label in enumerate(real.labels) if number not in in_both]


def _pixel_metrics(images: GreyImages, real: RealImages) -> dict[str, Any]:
    """What is measured on the images themselves."""
    test, training = real.images.images[real.test], real.images.images[real.training]
    stand_ins = real.images.images[real.like_samples()]
    held_out = hash_all(real.images.images[real.held_out])
    return {
        "divergences": asdict(pixel_divergences(test, images)),
        "diversity": diversity(pixel_points(images), pixel_points(test)),
        "exact_copies": int(exact_copies(images, training).sum()),
        "near_copies": int(close_to(hash_all(images), real.hashes).sum()),
        "real": {
            "divergences": asdict(pixel_divergences(test, stand_ins)),
            "diversity": diversity(pixel_points(stand_ins), pixel_points(test)),
            # Of held-out images: a training image would be its own copy.
            "near_copies": int(close_to(held_out, real.hashes).sum()),
            "images": len(stand_ins),
        },
    }


def _space_metrics(
    loaded: LoadedGenerator,
    images: GreyImages,
    real: RealImages,
    embedded: EmbeddedImages,
    quiet: bool,
) -> dict[str, Any]:
    space = embedded.space
    points = embed(space, images, title="samples", quiet=quiet)
    by_group = {group.label: _group_metrics(points, real, embedded, group) for group in real.groups}
    everything = by_group.pop("")
    return {
        "name": space.name,
        "sha256": space.sha256,
        "features": space.features,
        **(everything or {}),
        "memorisation": _memorisation(points, real, embedded),
        "probe": _probe(points, real, embedded) if makes_classes(loaded) else None,
        "per_class": by_group,
    }


def _group_metrics(
    points: Points, real: RealImages, embedded: EmbeddedImages, group: Group
) -> dict[str, Any] | None:
    """The samples of a group against its test images; None where either are too few."""
    test = group.real & real.test
    if min(test.sum(), group.samples.sum()) < LEAST_IMAGES:
        return None
    of_test, patients = embedded.points[test], real.images.patients[test]
    metrics, distance = _compare(of_test, points[group.samples], patients, real.seed)
    floor = embedded.floors.get(group.label)
    stand_ins = real.like_samples(group.samples)
    in_their_place = None
    if len(stand_ins) >= LEAST_IMAGES:
        in_their_place, _ = _compare(of_test, embedded.points[stand_ins], patients, real.seed)
    return {
        **metrics,
        "floor": asdict(floor) if floor else None,
        "ratio": floor.ratio(distance) if floor else None,
        "real": in_their_place,
    }


def _compare(
    real: Points, samples: Points, patients: Groups, seed: int
) -> tuple[dict[str, Any], Fid]:
    """All that compares two sets of embeddings, and the FID among it."""
    distance = fid(real, samples, patients=patients, seed=seed)
    # As many of either side, or recall would depend on the numbers.
    random = np.random.default_rng(seed)
    one, other = (side[random.permutation(len(side))[: distance.n]] for side in (real, samples))
    neighbours = asdict(manifold(one, other))
    del neighbours["realism"]
    metrics = {
        "kid": asdict(kid(real, samples, patients=patients, seed=seed)),
        "fid": {**asdict(distance), "low": distance.low, "high": distance.high},
        "manifold": neighbours,
        "diversity": diversity(samples, real),
        "divergences": asdict(embedding_divergences(real, samples)),
    }
    return metrics, distance


def _memorisation(points: Points, real: RealImages, embedded: EmbeddedImages) -> dict[str, Any]:
    """Are samples nearer to training images than images of other people are?"""
    training = np.concatenate([embedded.points[real.training], embedded.mirrored])
    held_out = embedded.points[real.held_out]
    close = closeness(points, held_out, training)
    percentiles = close.percentiles
    quantiles = np.quantile(percentiles, list(_QUANTILES.values())).tolist()
    return {
        "percentiles": dict(zip(_QUANTILES, quantiles, strict=True)),
        "suspicious": float((percentiles <= SUSPICIOUS).mean()),
        "copying": close.copying,
        "copying_by_cell": asdict(copying_by_cell(points, held_out, training, seed=real.seed)),
    }


def _probe(points: Points, real: RealImages, embedded: EmbeddedImages) -> dict[str, Any] | None:
    """Train on samples, test on real images; None where the real images lack a class."""
    stand_ins = real.like_samples()
    if _missing_classes(real):
        return None
    metrics = synthetic_against_real(
        LabelledPoints(points, real.classes),
        LabelledPoints(embedded.points[stand_ins], real.numbers[stand_ins]),
        LabelledPoints(embedded.points[real.test], real.numbers[real.test]),
        real.images.patients[real.test],
    )
    return {
        **asdict(metrics),
        "gap": metrics.gap,
        "samples": len(points),
        "real_images": len(stand_ins),
    }
