"""The demonstration set: images of the released generator that stand in for patients'.

So that everything can be tried on a machine that has no images. Each image says what it is in its
file and in its row. Its pixels carry no mark, which networks would learn; pages lay it over them.
What is measured on them says nothing about patients.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml.data.manifest import COLUMNS, DEMONSTRATION, MANIFEST
from ml.data.near_duplicates import Hashes, close_to, image_hash
from ml.data.splits import Split, split_of
from ml.data.summary import DataSetSummary
from ml.data.table_text import csv_text
from ml.data.versioning import freeze
from ml.errors import DataError
from ml.files import write_whole
from ml.gan.latents import SEEDS
from ml.gan.onnx_generator import GeneratorGraph
from ml.gan.synthesis.watermark import Provenance, png_of
from ml.imaging.types import GreyImage

# Images of each class. A privacy check needs 20 of a class in the validation split, and measuring
# a generator 16.
IMAGES: dict[Split, int] = {Split.TRAIN: 40, Split.VALIDATION: 24, Split.TEST: 24}
LICENCE = "research and non-commercial use, as the generator"
_SOFTWARE = "xray-screening demonstration"


@dataclass(frozen=True, slots=True)
class Chosen:
    """An image of the set."""

    seed: int
    label: str
    image: GreyImage

    @property
    def patient(self) -> str:
        """The key of the patient that it stands in for."""
        return patient_of(self.seed)


def patient_of(seed: int) -> str:
    """A key for each image; its hash decides the split, as everywhere."""
    return f"demo-{seed}"


def make_demonstration(to: Path, generator: GeneratorGraph) -> DataSetSummary:
    """Make the set and freeze it.

    Args:
        to: the data set's folder; there is none yet.
        generator: of three classes, made on demand.

    Returns:
        The summary of its freeze.

    Raises:
        DataError: there is a data set already.
    """
    if (to / MANIFEST).exists():
        raise DataError(f"{to} is already a data set. Give another folder.")
    rows = []
    for one in choose_images(generator):
        image = f"images/{one.label}-{one.seed}.png"
        (to / image).parent.mkdir(parents=True, exist_ok=True)
        write_whole(to / image, _picture(one, generator.sha256))
        rows.append(_row(one, image, generator.sha256))
    write_whole(to / MANIFEST, csv_text(COLUMNS, rows).encode())
    return freeze(to)


def choose_images(generator: GeneratorGraph) -> list[Chosen]:
    """The images of the first seeds that give every split its images of each class.

    As in `xray synthesize`, the remainder of a seed determines its class. None is a near-duplicate
    of another: it would be taken for an image of the same person.
    """
    missing = {(label, part): count for part, count in IMAGES.items() for label in generator.labels}
    chosen: list[Chosen] = []
    hashes: Hashes = np.empty((0, *image_hash(np.eye(64, dtype=np.uint8)).shape), np.uint64)
    for seed, label in _seeds(generator.labels):
        place = label, split_of(patient_of(seed))
        if not missing[place]:
            continue
        image = generator.images([seed], label)[0]
        own = image_hash(image)[None]
        if close_to(own, hashes).any():
            continue
        hashes = np.concatenate([hashes, own])
        chosen.append(Chosen(seed, label, image))
        missing[place] -= 1
        if not any(missing.values()):
            break
    return chosen


def _seeds(labels: Sequence[str]) -> Iterator[tuple[int, str]]:
    return ((seed, labels[seed % len(labels)]) for seed in range(SEEDS))


def _picture(one: Chosen, generator_sha256: str) -> bytes:
    provenance = Provenance(generator_sha256, str(one.seed), one.label, 1.0, _SOFTWARE)
    return png_of(one.image, provenance)


def _row(one: Chosen, image: str, generator_sha256: str) -> dict[str, str]:
    height, width = one.image.shape
    return {
        "image": image,
        "label": one.label,
        "source": DEMONSTRATION,
        "patient": one.patient,
        "finding": f"synthetic: seed {one.seed} of generator {generator_sha256}",
        "license": LICENCE,
        "width": str(width),
        "height": str(height),
        "original_width": str(width),
        "original_height": str(height),
    }
