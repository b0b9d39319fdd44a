"""What the console shows of data versions: counts, faults, lineage, what changed."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Text, cast, or_, select
from sqlalchemy.orm import Session

from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import data_folder
from app.registry.tables import ModelKind, ModelVersion
from app.runs.kinds import KINDS
from app.runs.tables import Run
from app.settings import Settings
from ml.data.manifest import MANIFEST
from ml.data.splits import Split
from ml.labels import LABELS, label_name

CONTACT_SHEET = "contact-sheet.jpg"
# The newest that are named on a page.
_MOST_LINKS = 20
# What a summary counts its images by; all but the first two may be missing.
_FEATURES = ("source", "split", "view", "sex", "age")
_FAULTS = {
    "leaks": "Near-duplicates on two sides of the split",
    "conflicts": "Near-duplicates under different labels",
}


@dataclass(frozen=True, slots=True)
class Link:
    """A name that leads somewhere."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class DataSummary:
    """A version in a list.

    Attributes:
        mark: what it must not be taken for images of people without: "demonstration", "synthetic".
        by_label: images of each class, in their order.
    """

    sha256: str
    url: str
    name: str
    mark: str
    images: int
    by_label: list[int]
    created_at: datetime
    by: str
    parent: Link | None

    @classmethod
    def of(cls, version: DataVersion, parent: DataVersion | None) -> Self:
        """Summarise a row."""
        return cls(
            sha256=version.sha256,
            url=_url(version.sha256),
            name=version.name,
            mark=mark_of(version),
            images=version.images,
            by_label=_in_order(version.summary["by_label"]),
            created_at=version.created_at,
            by=version.created_by.removeprefix("user:"),
            parent=_link(parent) if parent else None,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What became of the images of one class since the parent."""

    name: str
    added: int
    removed: int
    relabelled: int


@dataclass(frozen=True, slots=True)
class CountTable:
    """Images by a feature and class: rows of a value and its counts, classes in their order."""

    title: str
    rows: list[tuple[str, list[int]]]


@dataclass(frozen=True, slots=True)
class DataView:
    """A version on its own page."""

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
    parent: Link | None
    difference: list[Change]
    lineage: list[tuple[str, list[Link]]]
    contact_sheet: str | None
    may_be_quizzed: bool
    quiz_allowed: bool

    @classmethod
    def of(cls, session: Session, settings: Settings, version: DataVersion) -> Self:
        """Show a row, with what else is known of it."""
        summary, url = version.summary, _url(version.sha256)
        parent = session.get(DataVersion, version.parent_sha256) if version.parent_sha256 else None
        folder = data_folder(settings, version)
        return cls(
            sha256=version.sha256,
            url=url,
            name=version.name,
            mark=mark_of(version),
            lead=_lead(version),
            labels=[label_name(label) for label in LABELS],
            metrics=_metrics(summary),
            warnings=list(summary["warnings"]),
            faults=[
                (name, summary["examples"][key])
                for key, name in _FAULTS.items()
                if summary["examples"].get(key)
            ],
            tables=[
                CountTable(feature, _rows(feature, summary[f"by_{feature}"]))
                for feature in _FEATURES
                if summary.get(f"by_{feature}")
            ],
            created_at=version.created_at,
            by=version.created_by.removeprefix("user:"),
            parent=_link(parent) if parent else None,
            difference=changes(data_folder(settings, parent), folder) if parent else [],
            lineage=_lineage(session, version, parent),
            contact_sheet=f"{url}/{CONTACT_SHEET}" if (folder / CONTACT_SHEET).is_file() else None,
            may_be_quizzed=version.kind is DataKind.IMAGES,
            quiz_allowed=version.quiz_allowed,
        )


def mark_of(version: DataVersion) -> str:
    """What has to stand beside the version's name, if anything."""
    if version.summary["demonstration"]:
        return "demonstration"
    return "synthetic" if version.kind is DataKind.SYNTHETIC else ""


def _lead(version: DataVersion) -> str:
    match mark_of(version):
        case "demonstration" if version.summary["demonstration"] < version.images:
            return (
                f"{version.summary['demonstration']:,} of its images are those of the "
                "demonstration, which stand in for patients. Metrics measured on them say nothing "
                "about patients."
            )
        case "demonstration":
            return (
                "Images of our own generator that stand in for patients, so that every job can be "
                "tried at once. Metrics measured on them say nothing about patients."
            )
        case "synthetic":
            return (
                "Images that a generator made and nobody was x-rayed for. They train, and never "
                "validate or test."
            )
    return "Images of people. Patients, not images, are split into training, validation and test."


def _metrics(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    notes = {
        "images": ("Images", ""),
        "patients": ("Patients", ""),
        "duplicates": ("Near-duplicates", "images that are close to another one"),
        "leaks": ("Leaks", "near-duplicates on two sides of the split"),
        "conflicts": ("Conflicts", "near-duplicates under different labels"),
    }
    return [
        {"name": name, "value": f"{summary[key]:,}", "note": note}
        for key, (name, note) in notes.items()
    ]


def _rows(feature: str, counts: Mapping[str, Mapping[str, int]]) -> list[tuple[str, list[int]]]:
    values = [part.value for part in Split] if feature == "split" else counts
    return [(value, _in_order(counts.get(value, {}))) for value in values]


def _in_order(by_label: Mapping[str, int]) -> list[int]:
    return [by_label.get(label, 0) for label in LABELS]


def changes(before: Path, after: Path) -> list[Change]:
    """What a version has that its parent had not, and the other way round, class by class.

    An image is known by its place in the set, which is named after the bytes of its source.
    """
    old, new = _labels_of(before), _labels_of(after)
    return [
        Change(
            name=label_name(label),
            added=sum(new[image] == label for image in new.keys() - old.keys()),
            removed=sum(old[image] == label for image in old.keys() - new.keys()),
            relabelled=sum(new[image] == label != old[image] for image in new.keys() & old.keys()),
        )
        for label in LABELS
    ]


def _labels_of(folder: Path) -> dict[str, str]:
    """Image -> label. The manifest was checked when it was frozen."""
    with (folder / MANIFEST).open(newline="", encoding="utf-8-sig") as lines:
        return {row["image"]: row["label"] for row in csv.DictReader(lines)}


def _lineage(
    session: Session, version: DataVersion, parent: DataVersion | None
) -> list[tuple[str, list[Link]]]:
    """What it comes from and what came of it, newest first; without what there is none of."""
    sha256 = version.sha256
    made_by = session.get(Run, version.run_id) if version.run_id else None
    children = select(DataVersion).where(DataVersion.parent_sha256 == sha256)
    # A digest is in the options where the data set is not the one learned from, but synthetic.
    named = or_(Run.data_sha256 == sha256, cast(Run.options, Text).contains(sha256))
    runs = select(Run).where(named).order_by(Run.created_at.desc()).limit(_MOST_LINKS)
    used_by = [run for run in session.scalars(runs) if run.id != version.run_id]
    trained = or_(
        ModelVersion.data_sha256 == sha256,
        ModelVersion.run_id.in_([run.id for run in used_by]),
    )
    models = select(ModelVersion).where(trained).order_by(ModelVersion.registered_at.desc())
    found = [
        ("Grew out of", [_link(parent)] if parent else []),
        ("Made by", [_run_link(made_by)] if made_by else []),
        ("Grew into", [_link(child) for child in session.scalars(children.limit(_MOST_LINKS))]),
        ("Used by", [_run_link(run) for run in used_by]),
        ("Taught", [_model_link(model) for model in session.scalars(models.limit(_MOST_LINKS))]),
    ]
    return [(name, links) for name, links in found if links]


def _url(sha256: str) -> str:
    return f"/admin/data/{sha256}"


def _link(version: DataVersion) -> Link:
    return Link(version.name, _url(version.sha256))


def _run_link(run: Run) -> Link:
    title = KINDS[run.kind].title if run.kind in KINDS else run.kind
    return Link(f"{title}, {run.created_at:%Y-%m-%d}", f"/admin/runs/{run.id}")


def _model_link(model: ModelVersion) -> Link:
    what = "generator" if model.kind is ModelKind.GENERATOR else "classifier"
    return Link(f"{what} {model.version}", f"/admin/models/{model.sha256}")


def summaries(versions: Sequence[DataVersion]) -> list[DataSummary]:
    """All versions of a list, each with its parent, which is in the list too."""
    by_sha256 = {version.sha256: version for version in versions}
    return [
        DataSummary.of(version, by_sha256.get(version.parent_sha256 or "")) for version in versions
    ]
