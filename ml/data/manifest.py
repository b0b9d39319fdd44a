"""A data set is a folder with a `manifest.csv`; splits keep every patient on one side."""

import csv
import io
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ml.data.splits import Split, split_of
from ml.data.table_text import plain_rows, portable_path, read_table_text
from ml.errors import DataError, counted
from ml.imaging.types import MIN_SIDE, MIN_SYNTHETIC_SIDE
from ml.labels import MOST_LABELS, label_fault, ordered_labels

MANIFEST = "manifest.csv"
REQUIRED_COLUMNS = ("image", "label", "source", "patient")
COLUMNS = (
    "image",
    "lung_mask",
    "label",
    "source",
    # The hospital that took the image, where the source says so.
    "site",
    "patient",
    "view",
    "sex",
    "age",
    "finding",
    "license",
    "width",
    "height",
    "original_width",
    "original_height",
    # Keys of the same person in other sources, separated by semicolons.
    "also_patient",
)
# In a manifest that has images no person was x-rayed for: the SHA-256 of the generator.
SYNTHETIC_COLUMN = "synthetic"
MAX_FAULTS_SHOWN = 20
# The source of the images that stand in for patients, so that everything can be tried.
DEMONSTRATION = "demonstration"
DEMONSTRATION_FOLDER = Path(__file__).parents[1] / "demonstration"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One row of a manifest: where the image lies, what it shows, whose it is.

    Attributes:
        path: the image's file.
        label: its class.
        source: the public set or hospital it came from.
        site: the hospital, or group of hospitals, that took the image; the source where unknown.
        patient: key of the patient; all images of a patient are in one split.
        view: PA, AP, AP Supine, ...; empty where unknown, as all that follow.
        sex: M or F.
        age: in years.
        finding: the source's own words.
        license: of this image.
        synthetic: SHA-256 of the generator that made the image; empty where it is real.
    """

    path: Path
    label: str
    source: str
    patient: str
    view: str = ""
    sex: str = ""
    age: str = ""
    finding: str = ""
    license: str = ""
    synthetic: str = ""
    site: str = ""

    def __post_init__(self) -> None:
        if not self.site:
            object.__setattr__(self, "site", self.source)

    @property
    def split(self) -> Split:
        """The split of this image's patient; a synthetic image measures nothing, so it trains."""
        return Split.TRAIN if self.synthetic else split_of(self.patient)

    @property
    def least_side(self) -> int:
        """The short side that this image's file must have, in pixels."""
        return MIN_SYNTHETIC_SIDE if self.synthetic else MIN_SIDE


def in_split(records: Iterable[ImageRecord], split: Split) -> list[ImageRecord]:
    """Keep the images of one split, in manifest order."""
    return [record for record in records if record.split is split]


def real_images(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Keep the images of people, in manifest order."""
    return [record for record in records if not record.synthetic]


def labels_of(records: Iterable[ImageRecord]) -> tuple[str, ...]:
    """The classes of some images, in the order that classifiers have them."""
    return ordered_labels(record.label for record in records)


def is_demonstration(records: Iterable[ImageRecord]) -> bool:
    """Whether some of the images stand in for patients: then no metric is one of patients."""
    return any(record.source == DEMONSTRATION for record in records)


def read_synthetic_manifest(root: Path) -> list[ImageRecord]:
    """Read and check `root/manifest.csv` of a folder that has synthetic images alone.

    Raises:
        DataError: as `read_manifest`, or an image is not marked as synthetic: real images would
            come
            into training past the split by patient.
    """
    records = read_manifest(root)
    real = real_images(records)
    if real:
        raise DataError(
            f"{root} has {counted(len(real), 'image')} not marked as synthetic, such as "
            f"{real[0].path.name}. Add real images to the data set (--data), so that they are "
            "split by patient."
        )
    return records


def read_manifest(root: Path) -> list[ImageRecord]:
    """Read and check `root/manifest.csv`.

    A set of one class, or a source of one patient, is no fault: sets grow by imports. `xray data
    summary` warns of both.

    Args:
        root: the data set's folder; the `image` column is relative to it.

    Raises:
        DataError: names every fault with its row before any image is opened: missing columns,
            missing files, paths that leave the folder, labels that are no names of classes, more
            than `MOST_LABELS` classes, duplicate rows, rows without a patient, rows with more cells
            than columns, a generator that is no SHA-256.
    """
    return [record_of(root, row) for row in read_manifest_rows(root)[1]]


def read_manifest_rows(root: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read and check `root/manifest.csv` as `read_manifest` does, keeping every column.

    Returns:
        The names of the columns, and the rows.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise DataError(
            f"There is no {MANIFEST} in {root}. Give the folder of a data set with --data or "
            "XRAY_DATA."
        )
    try:
        text, separator = read_table_text(path)
        lines = io.StringIO(text, newline="")
        reader = csv.DictReader(lines, restval="", delimiter=separator)
        columns = [_column(name) for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = plain_rows(reader)
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path} is not a CSV file in UTF-8: {problem}.") from problem
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}. Add it.")
    if not rows:
        raise DataError(f"{path} has no rows. Add images.")
    for row in rows:
        row["image"] = portable_path(row["image"])
    faults = _faults(root, rows)
    if faults:
        raise DataError(f"{path} has {counted(len(faults), 'error')}:{listed(faults)}")
    return columns, rows


def _column(name: str) -> str:
    """A column's name: those that are known, whatever their case and the spaces around them."""
    plain = name.strip().lower()
    return plain if plain in COLUMNS else name


def listed(faults: Collection[str]) -> str:
    """The first faults, a line each, and how many there are besides."""
    lines = [f"\n  {fault}" for fault in islice(faults, MAX_FAULTS_SHOWN)]
    more = len(faults) - MAX_FAULTS_SHOWN
    return "".join(lines) + (f"\n  and {more} more" if more > 0 else "")


def record_of(root: Path, row: dict[str, str]) -> ImageRecord:
    """The image of a row that `read_manifest_rows` found to be in order."""
    return ImageRecord(
        path=root / row["image"],
        label=row["label"],
        source=row["source"],
        patient=row["patient"],
        view=row.get("view", ""),
        sex=row.get("sex", ""),
        age=row.get("age", ""),
        finding=row.get("finding", ""),
        license=row.get("license", ""),
        synthetic=row.get(SYNTHETIC_COLUMN, ""),
        site=row.get("site", ""),
    )


def _faults(root: Path, rows: list[dict[str, str]]) -> list[str]:
    home = root.resolve()
    first_seen: dict[Path, int] = {}
    faults = []
    # Row 1 is the header, as a spreadsheet counts.
    for number, row in enumerate(rows, start=2):
        image = row["image"]
        # Resolved, so that a.png and ./a.png are one image.
        path = (home / image).resolve()
        if path in first_seen:
            faults.append(f"row {number}: {image} is already in row {first_seen[path]}")
            continue
        first_seen[path] = number
        faults += [f"row {number}: {fault}" for fault in _row_faults(home, path, row)]
    if fault := class_count_fault(row["label"] for row in rows):
        faults.append(fault)
    return faults


def class_count_fault(labels: Iterable[str]) -> str:
    """What is wrong with how many classes a manifest has; empty where nothing is."""
    found = len(set(labels))
    return (
        f"{found} classes are too many. The maximum is {MOST_LABELS}."
        if found > MOST_LABELS
        else ""
    )


def _row_faults(home: Path, path: Path, row: dict[str, str]) -> list[str]:
    faults = []
    # Cells beyond the header, which DictReader puts under no name.
    if None in row:
        faults.append("more cells than columns")
    if not _is_within(home, row["image"]):
        faults.append(f"{row['image']} is outside the data set")
    elif not path.is_file():
        faults.append(f"there is no file {row['image']!r}")
    mask = row.get("lung_mask", "")
    if mask and not _is_within(home, mask):
        faults.append(f"{mask} is outside the data set")
    elif mask and not (home / mask).is_file():
        faults.append(f"there is no lung mask {mask!r}")
    if fault := label_fault(row["label"]):
        faults.append(f"label {fault}")
    generator = row.get(SYNTHETIC_COLUMN, "")
    if generator and not re.fullmatch("[0-9a-f]{64}", generator):
        faults.append(f"synthetic is {generator!r}, expected a generator's SHA-256 or nothing")
    faults += [f"{column} is empty" for column in ("source", "patient") if not row[column].strip()]
    return faults


def _is_within(home: Path, name: str) -> bool:
    """Whether a path is relative and stays in the folder, links resolved.

    A name that leads out and back in would lead elsewhere from a copy of the folder.
    """
    plain = not Path(name).is_absolute() and ".." not in Path(name).parts
    return plain and (home / name).resolve().is_relative_to(home)
