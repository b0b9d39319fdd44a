"""Data sets as pages show them: counts, near-duplicates, lineage, changes since the parent."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from sqlalchemy import Text, cast, or_, select
from sqlalchemy.orm import Session

from app.core.language import number
from app.core.links import PageLink
from app.datasets.links import data_link, data_mark, data_url
from app.datasets.small_splits import small_splits
from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import data_folder
from app.registry.links import model_link
from app.registry.tables import ModelVersion
from app.runs.links import run_link
from app.runs.tables import Run
from app.settings import Settings
from ml.data.manifest import MANIFEST
from ml.data.splits import Split
from ml.data.summary import DataSetSummary
from ml.data.table_text import plain_rows
from ml.labels import label_name, ordered_labels
from ml.texts import msg

CONTACT_SHEET = "contact-sheet.jpg"
# Links of one kind on a page; the newest are shown.
_MOST_LINKS = 20


@dataclass(frozen=True, slots=True)
class DataSummary:
    """A row of the list of data sets.

    Attributes:
        mark: "demonstration" or "synthetic", shown beside the name; empty for images of people.
        by_label: label -> images.
    """

    sha256: str
    url: str
    name: str
    mark: str
    images: int
    by_label: dict[str, int]
    created_at: datetime
    by: str
    parent: PageLink | None

    @classmethod
    def of(cls, version: DataVersion, parent: DataVersion | None) -> Self:
        """A version and its parent."""
        return cls(
            sha256=version.sha256,
            url=data_url(version.sha256),
            name=version.name,
            mark=data_mark(version),
            images=version.images,
            by_label=version.contents.by_label,
            created_at=version.created_at,
            by=version.created_by.removeprefix("user:"),
            parent=data_link(parent) if parent else None,
        )


@dataclass(frozen=True, slots=True)
class ClassChange:
    """How many images of one class changed since the parent version."""

    name: str
    added: int
    removed: int
    relabelled: int


@dataclass(frozen=True, slots=True)
class CountTable:
    """Numbers of images: one row per value, one column per class in the order of the labels."""

    title: str
    rows: list[tuple[str, list[int]]]


@dataclass(frozen=True, slots=True)
class DataView:
    """A data set version on its own page."""

    sha256: str
    url: str
    name: str
    mark: str
    lead: str
    labels: list[str]
    metrics: list[dict[str, str]]
    warnings: list[str]
    faults: list[tuple[str, list[list[str]]]]
    tables: list[CountTable]
    created_at: datetime
    by: str
    parent: PageLink | None
    difference: list[ClassChange]
    lineage: list[tuple[str, list[PageLink]]]
    contact_sheet: str | None
    may_be_quizzed: bool
    quiz_allowed: bool

    @classmethod
    def of(cls, session: Session, settings: Settings, version: DataVersion) -> Self:
        """Read a version's parent, files and lineage."""
        summary, url = version.contents, data_url(version.sha256)
        labels = ordered_labels(summary.by_label)
        parent = session.get(DataVersion, version.parent_sha256) if version.parent_sha256 else None
        folder = data_folder(settings, version)
        return cls(
            sha256=version.sha256,
            url=url,
            name=version.name,
            mark=data_mark(version),
            lead=_lead(version),
            labels=[label_name(label) for label in labels],
            metrics=_metrics(summary),
            warnings=[*summary.warnings, *small_splits(version)],
            faults=_faults(summary),
            tables=[
                CountTable("source", _rows(summary.by_source, summary.by_source, labels)),
                CountTable("split", _rows(summary.by_split, Split, labels)),
            ],
            created_at=version.created_at,
            by=version.created_by.removeprefix("user:"),
            parent=data_link(parent) if parent else None,
            difference=changes(data_folder(settings, parent), folder) if parent else [],
            lineage=_lineage(session, version, parent),
            contact_sheet=f"{url}/{CONTACT_SHEET}" if (folder / CONTACT_SHEET).is_file() else None,
            may_be_quizzed=version.kind is DataKind.IMAGES,
            quiz_allowed=version.quiz_allowed,
        )


def _lead(version: DataVersion) -> str:
    demonstration = version.contents.demonstration
    match data_mark(version):
        case "demonstration" if demonstration < version.images:
            return msg(
                "%(demonstration)s images are from the demonstration set: synthetic images "
                "that stand in for patients. Metrics measured on them say nothing about "
                "patients.",
                demonstration=demonstration,
            )
        case "demonstration":
            return msg(
                "Synthetic images that stand in for patients, to try out training and "
                "evaluation. Metrics measured on them say nothing about patients."
            )
        case "synthetic":
            return msg(
                "Images made by a generator. They are used for training, never for "
                "validation or testing."
            )
    return msg(
        "X-ray images of people, split into training, validation and test by patient, not by image."
    )


def _metrics(summary: DataSetSummary) -> list[dict[str, str]]:
    rows = (
        (msg("Images"), summary.images, ""),
        (msg("Patients"), summary.patients, ""),
        (
            msg("Near-duplicates"),
            summary.duplicates,
            msg("images that are very similar to another one"),
        ),
        (msg("Leaks"), summary.leaks, msg("pairs of near-duplicates in two splits")),
        (
            msg("Conflicts"),
            summary.conflicts,
            msg("groups of near-duplicates with different labels"),
        ),
    )
    return [{"name": name, "value": number(count), "note": note} for name, count, note in rows]


def _faults(summary: DataSetSummary) -> list[tuple[str, list[list[str]]]]:
    """Titles and groups of images, without those that have no group."""
    found = [
        (msg("Near-duplicates in two splits"), summary.examples.leaks),
        (msg("Near-duplicates with different labels"), summary.examples.conflicts),
    ]
    return [(title, groups) for title, groups in found if groups]


def _rows(
    counts: Mapping[str, Mapping[str, int]], values: Iterable[str], labels: Sequence[str]
) -> list[tuple[str, list[int]]]:
    return [
        (str(value), [counts.get(value, {}).get(label, 0) for label in labels]) for value in values
    ]


def changes(before: Path, after: Path) -> list[ClassChange]:
    """The differences between two versions, by class.

    An image is identified by its path in the data set, which is derived from its source's bytes.
    """
    old, new = _labels_of(before), _labels_of(after)
    return [
        ClassChange(
            name=label_name(label),
            added=sum(new[image] == label for image in new.keys() - old.keys()),
            removed=sum(old[image] == label for image in old.keys() - new.keys()),
            relabelled=sum(new[image] == label != old[image] for image in new.keys() & old.keys()),
        )
        for label in ordered_labels([*old.values(), *new.values()])
    ]


def _labels_of(folder: Path) -> dict[str, str]:
    """Image -> label. The manifest was checked when the data set was frozen."""
    with (folder / MANIFEST).open(newline="", encoding="utf-8-sig") as lines:
        return {row["image"]: row["label"] for row in plain_rows(csv.DictReader(lines))}


def _lineage(
    session: Session, version: DataVersion, parent: DataVersion | None
) -> list[tuple[str, list[PageLink]]]:
    """Where a version comes from and what used it, newest first, without empty rows."""
    sha256 = version.sha256
    made_by = session.get(Run, version.run_id) if version.run_id else None
    children = select(DataVersion).where(DataVersion.parent_sha256 == sha256).limit(_MOST_LINKS)
    # A run's synthetic training images are named in its options only.
    named = or_(Run.data_sha256 == sha256, cast(Run.options, Text).contains(sha256))
    runs = select(Run).where(named).order_by(Run.created_at.desc()).limit(_MOST_LINKS)
    used_by = [run for run in session.scalars(runs) if run.id != version.run_id]
    trained = or_(
        ModelVersion.data_sha256 == sha256,
        ModelVersion.run_id.in_([run.id for run in used_by]),
    )
    newest = ModelVersion.registered_at.desc()
    models = select(ModelVersion).where(trained).order_by(newest).limit(_MOST_LINKS)
    found = [
        (msg("Parent version"), [data_link(parent)] if parent else []),
        (msg("Created by run"), [run_link(made_by)] if made_by else []),
        (
            msg("Child versions"),
            [data_link(child) for child in session.scalars(children)],
        ),
        (msg("Used by runs"), [run_link(run) for run in used_by]),
        (
            msg("Models trained on it"),
            [model_link(model) for model in session.scalars(models)],
        ),
    ]
    return [(name, links) for name, links in found if links]


def data_summaries(versions: Sequence[DataVersion]) -> list[DataSummary]:
    """The rows of a list that has every version's parent in it."""
    by_sha256 = {version.sha256: version for version in versions}
    return [
        DataSummary.of(version, by_sha256.get(version.parent_sha256 or "")) for version in versions
    ]
