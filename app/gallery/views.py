"""What the gallery's pages say of films and generators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from sqlalchemy.orm import Session

from app.gallery.queries import Choice, Shelf, classes_of, usable_generators
from app.gallery.tables import SyntheticFilm
from app.registry.tables import ModelVersion
from app.services import Services
from ml.labels import LABELS, label_name


def model_title(model: ModelVersion) -> str:
    """What people call a generator."""
    return f"{model.version} ({model.sha256[:8]})"


def address(path: str, **query: object) -> str:
    """A link with the parts of its query that are given."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


@dataclass(frozen=True, slots=True)
class FilmCard:
    """A film among others."""

    id: int
    url: str
    thumbnail_url: str
    model: str
    label: str
    label_name: str
    seed: str

    @classmethod
    def of(cls, film: SyntheticFilm) -> Self:
        """Show a row."""
        url = f"/gallery/{film.id}"
        return cls(
            id=film.id,
            url=url,
            thumbnail_url=f"{url}/thumbnail.jpg?{_content(film)}",
            model=film.model_sha256,
            label=film.label,
            label_name=label_name(film.label),
            seed=film.seed,
        )


def _content(film: SyntheticFilm) -> str:
    """In an address that is cached for ever: another database's film of this number is another."""
    return urlencode({"v": film.data_sha256[:12]})


@dataclass(frozen=True, slots=True)
class FilmView:
    """A film on its own page."""

    card: FilmCard
    picture_url: str
    download_url: str
    generator: str
    generator_url: str
    certificate: list[str]
    percentile: float | None
    newer_url: str | None
    older_url: str | None
    all_url: str
    can_be_blended: bool

    @classmethod
    def of(
        cls, film: SyntheticFilm, model: ModelVersion, newer: int | None, older: int | None
    ) -> Self:
        """Show a row."""
        card = FilmCard.of(film)
        whole = film.certificate.get("truncation", "1") == "1"
        return cls(
            card=card,
            picture_url=f"{card.url}/film.png?{_content(film)}",
            download_url=f"{card.url}/download.png?{_content(film)}",
            generator=model_title(model),
            generator_url=f"/models/{model.sha256}",
            certificate=certificate_in_words(film.certificate),
            percentile=film.nearest_percentile,
            newer_url=f"/gallery/{newer}" if newer else None,
            older_url=f"/gallery/{older}" if older else None,
            all_url=address("/gallery", model=film.model_sha256, label=film.label),
            can_be_blended=bool(film.seed) and whole and film.label in classes_of(model),
        )


def certificate_in_words(certificate: Mapping[str, str]) -> list[str]:
    """Sentences about how near a film comes to the films that its generator learned from."""
    if not certificate:
        return [
            "This film was not compared with real films, so nobody knows how near it comes to one."
        ]
    low = float(certificate["nearest_percentile"])
    held_out, training = int(certificate["held_out_films"]), int(certificate["training_films"])
    realism = float(certificate["realism"])
    words = [
        f"It was compared with {training:,} real training films, and so were {held_out:,} real "
        f"films of its class that the generator never saw. {_share(low)} of those come as near to "
        "a training film as this one does"
        + (": it is no nearer than films of other people are." if low >= _USUAL else "."),
        f"By pixels {float(certificate['pixel_percentile']):.1f} %, by what a network sees in it "
        f"{float(certificate['embedding_percentile']):.1f} %; the lower one counts.",
        "It is a near copy of a training film."
        if certificate["near_copy"] == "yes"
        else "Neither it nor its mirror image is a near copy of a training film.",
        f"Realism {realism:.2f}: "
        + (
            "it lies among the training films of its class."
            if realism >= 1
            else "it lies outside of what the training films of its class look like."
        ),
    ]
    if certificate["generator_learned_from_them"] != "yes":
        words.append(
            "The generator learned from other films than these: to those it may come nearer."
        )
    return words


# Percent of the held-out films that come as near: from here on there is nothing to remark.
_USUAL = 5.0


def _share(percentile: float) -> str:
    return "Less than 1 %" if percentile < 1 else f"{percentile:.0f} %"


@dataclass(frozen=True, slots=True)
class Filter:
    """A choice in one of the gallery's lists."""

    value: str
    text: str
    chosen: bool


def model_filters(shelves: Sequence[Shelf], choice: Choice) -> list[Filter]:
    """The generators that have films in the gallery."""
    return [
        Filter(
            shelf.model.sha256,
            f"{model_title(shelf.model)}: {shelf.total:,}",
            shelf.model.sha256 == choice.model,
        )
        for shelf in shelves
        if shelf.total
    ]


def label_filters(shelves: Sequence[Shelf], choice: Choice) -> list[Filter]:
    """The classes, with the number of films of the chosen generator or of all."""
    shown = [shelf for shelf in shelves if choice.model in (None, shelf.model.sha256)]
    counts = {label: sum(shelf.films.get(label, 0) for shelf in shown) for label in LABELS}
    return [
        Filter(label, f"{label_name(label)}: {count:,}", label == choice.label)
        for label, count in counts.items()
        if count
    ]


@dataclass(frozen=True, slots=True)
class Maker:
    """A generator that makes films on the spot."""

    sha256: str
    title: str
    labels: tuple[str, ...]
    size: int

    @classmethod
    def of(cls, model: ModelVersion) -> Self:
        """Show a row."""
        options: dict[str, Any] = model.card["options"]
        return cls(model.sha256, model_title(model), classes_of(model), int(options["size"]))


def generator_options(current: Services, opened: Session) -> list[Maker]:
    return [Maker.of(model) for model in usable_generators(current.settings, opened)]
