"""What the pages show of generators, of the registry, and of comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from app.models import ModelVersion
from ml.gan.tables import AUROC, Row, pixel_rows, space_rows
from ml.labels import label_name

# Of the many figures of a generator, those that stand first.
_HEADLINE = ("KID", "FID", "recall", AUROC)


@dataclass(frozen=True, slots=True)
class FigureTable:
    """The figures of a generator in one place where films are compared."""

    title: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class GeneratorView:
    """A generator's card.

    Attributes:
        headline: the first figures of the first feature space.
        measured_on: on which films; empty where nothing was measured.
    """

    version: str
    sha256: str
    standing: str
    created_at: datetime
    classes: list[str]
    on_demand: bool
    size: int
    game: str
    steps: str
    learned_from: list[tuple[str, int]]
    code_version: str
    licence: str
    notes: list[str]
    headline: list[Row]
    tables: list[FigureTable]
    measured_on: str
    samples_url: str

    @classmethod
    def of(cls, model: ModelVersion) -> Self:
        """Show a row."""
        card = model.card
        options, figures = card["options"], card["figures"]
        tables = _tables(figures)
        headline = [row for table in tables[:1] for row in table.rows if row.name in _HEADLINE]
        return cls(
            version=model.version,
            sha256=model.sha256,
            standing="A retired generator" if model.retired_at else "A generator",
            created_at=datetime.fromisoformat(card["created_at"]),
            classes=[label_name(label) for label in options["labels"].split(",")],
            on_demand=bool(options.get("conditional")),
            size=options["size"],
            game=f"{options['objective']}, {options['network']} networks",
            steps=f"{card['step']:,} steps, {card['films_seen']:,} films shown",
            learned_from=[(label_name(label), count) for label, count in card["films"].items()],
            code_version=card["code_version"],
            licence=card.get("licence") or "not stated",
            notes=[*card["notes"], *figures.get("notes", [])],
            headline=headline,
            tables=tables,
            measured_on=_measured_on(figures) if tables else "",
            samples_url=f"/gallery/samples/{model.sha256}.png",
        )


def _tables(figures: Mapping[str, Any]) -> list[FigureTable]:
    tables = [
        FigureTable(f"Compared in {space['name']}", space_rows(space))
        for space in figures.get("spaces", [])
    ]
    if "pixels" in figures:
        samples, held_out = figures["samples"]["films"], figures["real"]["held_out_films"]
        rows = pixel_rows(figures["pixels"], samples, held_out)
        tables.append(FigureTable("Compared pixel by pixel", rows))
    return tables


def _measured_on(figures: Mapping[str, Any]) -> str:
    real, samples = figures["real"], figures["samples"]
    return (
        f"{samples['films']:,} samples against {real['films']:,} test films of "
        f"{real['patients']:,} patients. In brackets 95 % intervals, of FIDs standard errors."
    )


def generator_figures(card: Mapping[str, Any], names: Sequence[str] = ("KID", "FID")) -> list[Row]:
    """Some figures of the first feature space; none where nothing was measured."""
    spaces = card["figures"].get("spaces") or []
    return [row for space in spaces[:1] for row in space_rows(space) if row.name in names]
