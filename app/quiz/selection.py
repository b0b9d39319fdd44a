"""Which images a round of "Real or synthetic?" has, and the one picture that shows them all.

All images go through the same preprocessing, and both halves of a round show the same classes.
"""

import csv
import logging
import re
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import Conflict
from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import SHIPPED, data_folder
from app.quiz.tables import QuizImage
from app.registry.tables import ModelVersion
from app.settings import Settings
from ml.data.manifest import DEMONSTRATION, MANIFEST, SYNTHETIC_COLUMN
from ml.data.table_text import plain_rows
from ml.data.versioning import read_version
from ml.gan.latents import SEEDS
from ml.texts import msg

logger = logging.getLogger(__name__)

# The demonstration set of version 0.1.0, of which rounds are still there.
SHIPPED_WITH_0_1 = "dca3a1de20393b5def553e9d293421c2a166e8cbfb7996c8bdcf661aca8b665b"
IMAGES, COLUMNS = 20, 5
HALF = IMAGES // 2
# Licences under which an image may be shown to anybody. It is shown smaller and with other greys,
# which a licence without derivatives (ND) does not allow; no licence allows nothing.
LICENCES = ("CC0", "CC BY", "CC BY-SA", "CC BY-NC", "CC BY-NC-SA")
_VERSION = re.compile(r"[ -]\d(\.\d)?$")
_random = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class PoolImage:
    """An image that may stand for the real ones."""

    data: str  # SHA-256 of the data version
    image: str
    label: str
    patient: str
    source: str
    licence: str


@dataclass(frozen=True, slots=True)
class QuizSource:
    """What a round of a generator would be made of.

    Attributes:
        pool: images for the real half.
        other: the generator that makes that half where there is no pool, for practice.
        counts: whether the pool's images are of people, so that the round says something.
    """

    pool: tuple[PoolImage, ...] = ()
    other: ModelVersion | None = None
    counts: bool = False


def may_be_shown(licence: str) -> bool:
    """Whether an image's licence lets anybody see it here."""
    name = _VERSION.sub("", " ".join(licence.upper().split()))
    return name in LICENCES


def choose_source(
    session: Session,
    settings: Settings,
    model: ModelVersion,
    labels: Sequence[str],
    others: Sequence[ModelVersion],
) -> QuizSource:
    """What stands for the real half of a round.

    Images of people where an admin and the licence allow it; else those of the demonstration set
    or of another generator, and then the round is practice.

    Args:
        session: the database.
        settings: name the home folder.
        model: the generator in question.
        labels: the classes that it makes.
        others: further generators that make images here.

    Raises:
        Conflict: there is nothing to compare with.
    """
    versions = session.scalars(select(DataVersion).where(DataVersion.kind == DataKind.IMAGES)).all()
    size = int(model.card["options"]["size"])
    people = [
        image
        for version in versions
        if version.quiz_allowed
        for image in _images_here(settings, version, size, people=True)
        if image.label in labels
    ]
    if len({image.patient for image in people}) >= HALF:
        return QuizSource(tuple(people), counts=True)
    shipped = session.get(DataVersion, shipped_sha256())
    if shipped:
        pool = _images_here(settings, shipped, 0, people=False)
        own = tuple(image for image in pool if image.label in labels)
        if len({image.patient for image in own}) >= HALF:
            return QuizSource(own)
    for other in others:
        if other.sha256 != model.sha256 and set(_classes(other)) & set(labels):
            return QuizSource(other=other)
    raise Conflict(
        msg(
            "There are no images to compare with those of this generator. An admin can "
            "allow the images of a data set, or register another generator."
        )
    )


@cache
def shipped_sha256() -> str:
    """The demonstration set: no other set's images are nobody's because their rows say so."""
    return read_version(SHIPPED).sha256


def _images_here(
    settings: Settings, version: DataVersion, least_side: int, *, people: bool
) -> tuple[PoolImage, ...]:
    """Those of `_images_of`; none of a version whose folder is lost."""
    folder = data_folder(settings, version)
    if not (folder / MANIFEST).is_file():
        logger.warning("the quiz leaves out data set %s: %s is missing", version.name, folder)
        return ()
    return _images_of(folder, version.sha256, least_side, people=people)


@lru_cache(maxsize=8)
def _images_of(
    folder: Path, sha256: str, least_side: int, *, people: bool
) -> tuple[PoolImage, ...]:
    """The images of a data version that may be shown; a version never changes.

    Args:
        folder: of the version.
        sha256: of the version.
        least_side: images with a shorter side would be blurred, and known by it.
        people: images of people, whose licence has to allow it; else those of the demonstration
            set, which a version based on it has among the others.
    """
    with (folder / MANIFEST).open(newline="", encoding="utf-8-sig") as lines:
        found = plain_rows(csv.DictReader(lines, restval=""))
    rows = [row for row in found if not row.get(SYNTHETIC_COLUMN)]
    return tuple(
        PoolImage(
            sha256,
            row["image"],
            row["label"],
            row["patient"],
            row["source"],
            row.get("license", ""),
        )
        for row in rows
        if people is (row["source"] != DEMONSTRATION)
        and (may_be_shown(row.get("license", "")) or not people)
        and _is_large_enough(row, least_side)
    )


def _is_large_enough(row: Mapping[str, str], least_side: int) -> bool:
    sides = [row.get(name, "") for name in ("width", "height")]
    return all(not side.isdecimal() or int(side) >= least_side for side in sides)


def draw(found: QuizSource, labels: Sequence[str]) -> list[QuizImage]:
    """Twenty images in any order, as they are kept in the row; both halves of the same classes."""
    if found.other is None:
        half = [_real(image) for image in _different_patients(found.pool)]
    else:
        common = [label for label in labels if label in _classes(found.other)]
        half = [
            {"real": True, "model": found.other.sha256, "label": label, "seed": _any_seed()}
            for label in _in_turn(common)
        ]
    made: list[QuizImage] = [
        {"real": False, "label": image["label"], "seed": _any_seed()} for image in half
    ]
    images = half + made
    _random.shuffle(images)
    return images


def _real(image: PoolImage) -> QuizImage:
    return {
        "real": True,
        "data": image.data,
        "image": image.image,
        "label": image.label,
        "patient": image.patient,
        "source": image.source,
        "licence": image.licence,
    }


def _different_patients(pool: Sequence[PoolImage]) -> list[PoolImage]:
    """Half a round of images, one of each patient, the classes in turn as far as they reach."""
    by_label: dict[str, list[PoolImage]] = defaultdict(list)
    for image in _random.sample(pool, len(pool)):
        by_label[image.label].append(image)
    chosen: dict[str, PoolImage] = {}
    while len(chosen) < HALF:
        for label in _random.sample(list(by_label), len(by_label)):
            while by_label[label] and len(chosen) < HALF:
                image = by_label[label].pop()
                if image.patient not in chosen:
                    chosen[image.patient] = image
                    break
    return list(chosen.values())


def _in_turn(labels: Sequence[str]) -> list[str]:
    return [labels[number % len(labels)] for number in range(HALF)]


def _classes(model: ModelVersion) -> list[str]:
    return str(model.card["options"]["labels"]).split(",")


def _any_seed() -> int:
    return secrets.randbelow(SEEDS)
