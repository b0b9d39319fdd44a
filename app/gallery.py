"""The films of the gallery: how they come into it, and how they are found again, page by page."""

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session, defer

from app.errors import Conflict
from app.models import DataVersion, ModelKind, ModelVersion, SyntheticFilm
from ml.data import SYNTHETIC_COLUMN, read_rows
from ml.gan.synthetic_folder import CERTIFICATES, read_certificates
from ml.labels import LABELS

PAGE = 60
_INSERTED_AT_ONCE = 1000
Row = dict[str, str]


def register_films(session: Session, data_version: DataVersion, folder: Path) -> int:
    """Put the films of a sealed synthetic set into the gallery; those in it already stay as is.

    Args:
        session: the database.
        data_version: the set's row.
        folder: the set, with its manifest and, where films were compared, certificates.

    Returns:
        How many films were added.

    Raises:
        Conflict: a film is not synthetic, or its generator is not registered.
        DataError: the manifest has faults, such as a film that lies outside of the folder.
    """
    certificates = read_certificates(folder / CERTIFICATES)
    rows = read_rows(folder)[1]
    _require_generators(session, {row.get(SYNTHETIC_COLUMN, "") for row in rows})
    of_version = SyntheticFilm.data_sha256 == data_version.sha256
    before = _count(session, of_version)
    bind = session.get_bind()
    insert = postgresql_insert if bind.dialect.name == "postgresql" else sqlite_insert
    films = (_film(data_version, row, certificates.get(row["image"], {})) for row in rows)
    while some := list(islice(films, _INSERTED_AT_ONCE)):
        session.execute(insert(SyntheticFilm).on_conflict_do_nothing(), some)
    return _count(session, of_version) - before


def _require_generators(session: Session, named: set[str]) -> None:
    if "" in named:
        raise Conflict(
            "the set has films that no generator made: the gallery is for synthetic ones"
        )
    known = session.scalars(
        select(ModelVersion.sha256).where(
            ModelVersion.sha256.in_(named), ModelVersion.kind == ModelKind.GENERATOR
        )
    )
    missing = sorted(named - set(known))
    if missing:
        raise Conflict(
            f"the set has films of generator {missing[0][:12]}, which is not registered here: "
            "register it first, since each film's page leads to its generator's card"
        )


def _film(version: DataVersion, row: Row, certificate: Row) -> dict[str, Any]:
    # Films without a certificate have their seed at the end of the patient's key.
    after = row["patient"].rpartition("-")[2]
    percentile = certificate.get("nearest_percentile")
    return {
        "model_sha256": row[SYNTHETIC_COLUMN],
        "data_sha256": version.sha256,
        "label": row["label"],
        "seed": certificate.get("seed") or (after if after.isdecimal() else ""),
        "image": row["image"],
        "nearest_percentile": float(percentile) if percentile else None,
        "certificate": certificate,
    }


def _count(session: Session, which: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(SyntheticFilm).where(which)) or 0


@dataclass(frozen=True, slots=True)
class Choice:
    """Which films of the gallery: of one generator or all, of one class or all."""

    model: str | None = None  # SHA-256
    label: str | None = None


def newest(
    session: Session, choice: Choice, most: int, before: int | None = None
) -> list[SyntheticFilm]:
    """The films of a choice that are older than the film `before`, newest first."""
    found = [film for query in queries(choice, most, before) for film in session.scalars(query)]
    return sorted(found, key=lambda film: -film.id)[:most]


def queries(choice: Choice, most: int, before: int | None = None) -> list[Select[SyntheticFilm]]:
    """What `newest` asks: each query reads its films off an index, in order, and no others.

    The index of a generator's films is by class first, so all of a generator's films are asked for
    class by class.
    """
    query = select(SyntheticFilm).options(defer(SyntheticFilm.certificate))
    query = query.order_by(SyntheticFilm.id.desc()).limit(most)
    if before is not None:
        query = query.where(SyntheticFilm.id < before)
    if choice.model is not None:
        query = query.where(SyntheticFilm.model_sha256 == choice.model)
    if choice.model is None and choice.label is None:
        return [query]
    labels = LABELS if choice.label is None else (choice.label,)
    return [query.where(SyntheticFilm.label == label) for label in labels]


def one_page(
    session: Session, choice: Choice, before: int | None = None
) -> tuple[list[SyntheticFilm], int | None]:
    """One page, and before which film the next one begins; None where it is the last."""
    films = newest(session, choice, PAGE + 1, before)
    return films[:PAGE], films[PAGE - 1].id if len(films) > PAGE else None


def neighbours(session: Session, film: SyntheticFilm) -> tuple[int | None, int | None]:
    """The next newer and the next older film of the same generator and class."""
    alike = select(SyntheticFilm.id).where(
        SyntheticFilm.model_sha256 == film.model_sha256, SyntheticFilm.label == film.label
    )
    newer = alike.where(SyntheticFilm.id > film.id).order_by(SyntheticFilm.id).limit(1)
    older = alike.where(SyntheticFilm.id < film.id).order_by(SyntheticFilm.id.desc()).limit(1)
    return session.scalar(newer), session.scalar(older)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A generator and how many films of each class the gallery has of it."""

    model: ModelVersion
    films: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Films of all classes."""
        return sum(self.films.values())


def shelves(session: Session) -> list[Shelf]:
    """All generators, the newest first, also those that have no film in the gallery yet."""
    generators = select(ModelVersion).where(ModelVersion.kind == ModelKind.GENERATOR)
    in_order = generators.order_by(ModelVersion.registered_at.desc(), ModelVersion.sha256)
    found = {model.sha256: Shelf(model) for model in session.scalars(in_order)}
    kinds = (SyntheticFilm.model_sha256, SyntheticFilm.label)
    for sha256, label, count in session.execute(select(*kinds, func.count()).group_by(*kinds)):
        found[sha256].films[label] = count
    return list(found.values())
