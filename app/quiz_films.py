"""Which films a round of "Real or synthetic?" has, and the one picture that shows them all.

All films go through the same preprocessing, and both halves of a round show the same classes.
"""

import csv
import re
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.data_files import file_in
from app.datasets import SHIPPED, data_folder
from app.errors import Conflict, NotFound
from app.gallery_pictures import enlarged
from app.models import DataKind, DataVersion, ModelVersion, QuizRound
from app.settings import Settings
from ml.data import DEMONSTRATION, MANIFEST, SYNTHETIC_COLUMN
from ml.films import UnreadableFilm, grey_png, read_film
from ml.gan.latents import SEEDS
from ml.gan.provenance import marked
from ml.generator_graph import GeneratorGraph
from ml.sealing import read_seal
from ml.transforms import BlankFilm, standardise

FILMS, COLUMNS = 20, 5
HALF = FILMS // 2
# The side of a film in the picture, and the rim around it that repeats its edge: a browser that
# resizes the picture takes nothing of the neighbour in.
TILE, RIM = 192, 2
STEP = TILE + 2 * RIM
_LETTERS = 2
_GONE = "a film of this round is no longer there: begin another"

# Licences under which a film may be shown to anybody. It is shown smaller and with other greys,
# which a licence without derivatives (ND) does not allow; no licence allows nothing.
LICENCES = ("CC0", "CC BY", "CC BY-SA", "CC BY-NC", "CC BY-NC-SA")
_VERSION = re.compile(r"[ -]\d(\.\d)?$")

_random = secrets.SystemRandom()
Film = NDArray[np.uint8]  # (S, S)


@dataclass(frozen=True, slots=True)
class PoolFilm:
    """A film that may stand for the real ones."""

    data: str  # SHA-256 of the data version
    image: str
    label: str
    patient: str
    source: str
    licence: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What a round of a generator would be made of.

    Attributes:
        pool: films for the real half.
        other: the generator that makes that half where there is no pool, for practice.
        counts: whether the pool's films are of people, so that the round says something.
    """

    pool: tuple[PoolFilm, ...] = ()
    other: ModelVersion | None = None
    counts: bool = False


def may_be_shown(licence: str) -> bool:
    """Whether a film's licence lets anybody see it here."""
    name = _VERSION.sub("", " ".join(licence.upper().split()))
    return name in LICENCES


def offer(
    session: Session,
    settings: Settings,
    model: ModelVersion,
    labels: Sequence[str],
    others: Sequence[ModelVersion],
) -> Offer:
    """What stands for the real half of a round.

    Films of people where an admin and the licence allow it; else those of the demonstration set, or
    of another generator, and then the round is practice.

    Args:
        session: the database.
        settings: name the home folder.
        model: the generator in question.
        labels: the classes that it makes.
        others: further generators that make films here.

    Raises:
        Conflict: there is nothing to compare with.
    """
    versions = session.scalars(select(DataVersion).where(DataVersion.kind == DataKind.FILMS)).all()
    size = int(model.card["options"]["size"])
    people = [
        film
        for version in versions
        if version.quiz_allowed
        for film in _films_of(data_folder(settings, version), version.sha256, size, people=True)
        if film.label in labels
    ]
    if len({film.patient for film in people}) >= HALF:
        return Offer(tuple(people), counts=True)
    shipped = session.get(DataVersion, _shipped_sha256())
    if shipped:
        pool = _films_of(data_folder(settings, shipped), shipped.sha256, 0, people=False)
        own = tuple(film for film in pool if film.label in labels)
        if len({film.patient for film in own}) >= HALF:
            return Offer(own)
    for other in others:
        if other.sha256 != model.sha256 and set(_classes(other)) & set(labels):
            return Offer(other=other)
    raise Conflict(
        "there is nothing to tell this generator's films from: an admin can allow films of a data "
        "set, or register another generator"
    )


@cache
def _shipped_sha256() -> str:
    """The demonstration set: no other set's films are nobody's because their rows say so."""
    return str(read_seal(SHIPPED)["sha256"])


@lru_cache(maxsize=8)
def _films_of(folder: Path, sha256: str, least_side: int, *, people: bool) -> tuple[PoolFilm, ...]:
    """The films of a data version that may be shown; a version never changes.

    Args:
        folder: of the version.
        sha256: of the version.
        least_side: films with a shorter side would be blurred, and known by it.
        people: films of people, whose licence has to allow it; else those of the demonstration
            set, which one that grew out of it has among the others.
    """
    with (folder / MANIFEST).open(newline="", encoding="utf-8-sig") as lines:
        rows = [row for row in csv.DictReader(lines, restval="") if not row.get(SYNTHETIC_COLUMN)]
    return tuple(
        PoolFilm(
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


def draw(found: Offer, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Twenty films in any order, as they are kept in the row; both halves of the same classes."""
    if found.other is None:
        half = [{**asdict(film), "real": True} for film in _different_patients(found.pool)]
    else:
        common = [label for label in labels if label in _classes(found.other)]
        half = [
            {"real": True, "model": found.other.sha256, "label": label, "seed": _any_seed()}
            for label in _in_turn(common)
        ]
    made = [{"real": False, "label": film["label"], "seed": _any_seed()} for film in half]
    films = half + made
    _random.shuffle(films)
    return films


def _different_patients(pool: Sequence[PoolFilm]) -> list[PoolFilm]:
    """Half a round of films, one of each patient, the classes in turn as far as they reach."""
    by_label: dict[str, list[PoolFilm]] = defaultdict(list)
    for film in _random.sample(pool, len(pool)):
        by_label[film.label].append(film)
    chosen: dict[str, PoolFilm] = {}
    while len(chosen) < HALF:
        for label in _random.sample(list(by_label), len(by_label)):
            while by_label[label] and len(chosen) < HALF:
                film = by_label[label].pop()
                if film.patient not in chosen:
                    chosen[film.patient] = film
                    break
    return list(chosen.values())


def _in_turn(labels: Sequence[str]) -> list[str]:
    return [labels[number % len(labels)] for number in range(HALF)]


def _classes(model: ModelVersion) -> list[str]:
    return str(model.card["options"]["labels"]).split(",")


def _any_seed() -> int:
    return secrets.randbelow(SEEDS)


def sheet(
    session: Session,
    settings: Settings,
    found: QuizRound,
    graphs: Mapping[str, GeneratorGraph],
    *,
    answers: bool,
) -> bytes:
    """All films of a round in one PNG, in rows of `COLUMNS`.

    Films carry the word SYNTHETIC in the answers, and all of them in a round of practice.

    Args:
        session: the database.
        settings: name the home folder.
        found: the round.
        graphs: the generators that it needs, by SHA-256.
        answers: whether the round is over.

    Raises:
        NotFound: a film is gone, or films of its data set are not to be shown any more.
    """
    size = graphs[found.model_sha256].size
    folders: dict[str, Path] = {}
    tiles = []
    for film in found.films:
        if "image" in film:
            sha256 = film["data"]
            if sha256 not in folders:
                folders[sha256] = _folder_to_show(session, settings, sha256)
            pixels = _stored(folders[sha256], film["image"], size)
        else:
            graph = graphs[film.get("model", found.model_sha256)]
            pixels = graph.films([film["seed"]], film["label"])[0]
        is_marked = not found.counts or (answers and not film["real"])
        tiles.append(_tile(pixels, size, is_marked=is_marked))
    rows = [np.concatenate(tiles[n : n + COLUMNS], axis=1) for n in range(0, FILMS, COLUMNS)]
    return grey_png(np.concatenate(rows))


def generators_of(found: QuizRound) -> set[str]:
    """The generators whose films a round has."""
    return {found.model_sha256} | {film["model"] for film in found.films if "model" in film}


def _folder_to_show(session: Session, settings: Settings, sha256: str) -> Path:
    """The folder of a data version whose films may be shown at this moment."""
    version = session.get(DataVersion, sha256)
    if version is None or not (version.quiz_allowed or sha256 == _shipped_sha256()):
        raise NotFound(_GONE)
    return data_folder(settings, version)


def _stored(folder: Path, image: str, size: int) -> NDArray[np.uint8 | np.uint16]:
    try:
        return read_film(file_in(folder, image).read_bytes(), shortest=2 * size).pixels
    except (NotFound, UnreadableFilm) as problem:
        raise NotFound(_GONE) from problem


def _tile(pixels: NDArray[np.uint8 | np.uint16], size: int, *, is_marked: bool) -> Film:
    """A film as all are shown: standardised as a generator's films are, enlarged, with its rim."""
    try:
        film = standardise(pixels, size)
    except BlankFilm:
        film = np.asarray(Image.fromarray(pixels.astype(np.uint8)).resize((size, size)))
    tile = enlarged(film, TILE, exactly=True)
    return np.pad(marked(tile, _LETTERS) if is_marked else tile, RIM, mode="edge")
