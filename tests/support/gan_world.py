"""A tiny world for GANs: small images of two classes, a feature space of pixels, quick options."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional as F

from ml.data.manifest import ImageRecord, in_split
from ml.data.splits import Split, split_of
from ml.gan import averaged_generator
from ml.gan.evaluation.features import Embeddings, FeatureSpace, GreyImages
from ml.gan.generator_card import GeneratorCard
from ml.gan.generator_file import LoadedGenerator, load_generator, save_generator
from ml.gan.network_pairs import build_generator
from ml.option_fields import validated_options
from ml.options.gan import GAN_PRESETS, GanOptions
from ml.training.run_folder import fingerprint
from tests.support.images import png, synthetic_image

CPU = torch.device("cpu")
SIDE = 16
LABELS = ("covid", "normal")
STATISTICS_BATCHES = 2
IMAGES_OF_SPLIT = {Split.TRAIN: 12, Split.VALIDATION: 4, Split.TEST: 4}


@pytest.fixture(autouse=True, scope="module")
def few_batches_for_statistics() -> Iterator[None]:
    """Batch-norm statistics over 128 images: over 1,024, they would take longer than the steps."""
    patch = pytest.MonkeyPatch()
    patch.setattr(averaged_generator, "_STATISTICS_BATCHES", STATISTICS_BATCHES)
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Problems this small take ten times as long where threads wait for a busy core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


def pixel_space() -> FeatureSpace:
    """Images shrunk to 8 px as their own features: no network to load."""

    def embed(images: GreyImages) -> Embeddings:
        unit = torch.from_numpy(images.copy())[:, None].float() / 255
        small: Embeddings = F.adaptive_avg_pool2d(unit, 8).flatten(1).numpy()
        return small

    return FeatureSpace("pixels", "0" * 64, 64, 64, embed)


def write_images(
    folder: Path,
    images_of_split: Mapping[Split, int] = IMAGES_OF_SPLIT,
    labels: Sequence[str] = LABELS,
) -> list[ImageRecord]:
    """Images of all classes, so many of each in each split, one for each patient."""
    random = np.random.default_rng(0)
    missing = {(label, part): count for part, count in images_of_split.items() for label in labels}
    records = []
    number = 0
    while any(missing.values()):
        number += 1
        label, patient = labels[number % len(labels)], f"patient-{number}"
        if not missing[label, split_of(patient)]:
            continue
        missing[label, split_of(patient)] -= 1
        image = synthetic_image(random, 72, 72).astype(int)
        image[20:52, 20:52] += 60 * (number % len(labels))
        path = folder / f"{number}.png"
        path.write_bytes(png(np.clip(image, 0, 255).astype(np.uint8)))
        records.append(ImageRecord(path, label, "generated", patient))
    return records


def tiny(preset: str = "wgan-gp", **changes: object) -> GanOptions:
    """A preset that is trained in a moment."""
    quick = {
        "size": SIDE,
        "latent": 8,
        "width": 2,
        "batch_size": 8,
        "steps": 4,
        "critic_steps": min(2, GAN_PRESETS[preset].critic_steps),
        "evaluation_interval": 2,
        "min_diversity": 0.0,
    }
    return validated_options(GanOptions, quick | changes, GAN_PRESETS[preset])


def untrained(path: Path, records: Sequence[ImageRecord], options: GanOptions) -> LoadedGenerator:
    """A generator that learned nothing from the training images, as its file gives it."""
    learned = [r for r in in_split(records, Split.TRAIN) if r.label in options.label_names]
    card = GeneratorCard(
        options=options,
        step=4,
        images_seen=64,
        images_sha256=fingerprint(learned),
        images=dict(Counter(record.label for record in learned)),
        code_version="test",
        created_at="2026-11-24T00:00:00+00:00",
        licence="research use",
    )
    save_generator(path, build_generator(options), card)
    return load_generator(path)
