"""What a layout finds in a public data set: images to take, and images left out with a reason."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml.data.table_text import plain_cell, read_table_text
from ml.errors import DataError
from ml.imaging.image_files import sort_files
from ml.labels import label_fault

# Why an image is left out; the words are counted in the report.
FINDING = "finding outside the classes"
LATERAL = "not a frontal view"
MODALITY = "not an X-ray"
MISSING = "file missing"
NO_LABEL = "no label"
NO_PATIENT = "no patient"
UNREADABLE = "unreadable"
_OLDEST = 120
_SYNONYMS = {
    "covid": "covid",
    "covid19": "covid",
    "sarscov2": "covid",
    "pneumonia": "pneumonia",
    "viralpneumonia": "pneumonia",
    "bacterialpneumonia": "pneumonia",
    "normal": "normal",
    "healthy": "normal",
    "nofinding": "normal",
    "nofindings": "normal",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that a layout offers.

    Attributes:
        path: the image's file.
        label: its class.
        source: the name of the set; part of file names and of patient keys.
        site: the hospital, or group of hospitals, that took the image; empty where unknown.
        patient: the patient's name within the source.
        lung_mask: a picture of the lungs, any size.
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
    site: str = ""
    lung_mask: Path | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """An image that is not taken: `reason` in fixed words, `detail` for this image."""

    path: Path
    reason: str
    detail: str = ""


Found = Iterator[Candidate | Skipped]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What a layout may need beyond the folder.

    Attributes:
        source: name of the source, for layouts that do not know theirs.
        patient_pattern: regular expression whose one group finds the patient in a file's path.
        labels: CSV of labels.
        salt_file: where the salt of hashed patient numbers lies or is to be made.
    """

    source: str = ""
    patient_pattern: str = ""
    labels: Path | None = None
    salt_file: Path = Path(".patient-salt")


def class_of(words: str) -> str | None:
    """The known class that a folder's name or a label means, None where it means none of them."""
    return _SYNONYMS.get(re.sub(r"[-_ ]", "", words).lower())


def label_of(words: str, where: Path) -> str:
    """The class that a folder's name or a label means, whatever it is: "Lung Opacity" is
    "lung-opacity".

    Args:
        words: the name or the label.
        where: where they stand, for an error.

    Raises:
        DataError: the words cannot be the name of a class.
    """
    label = class_of(words) or re.sub(r"\s+", "-", words.strip()).lower()
    if fault := label_fault(label):
        raise DataError(f"{where}: {fault}")
    return label


def clean_sex(text: str) -> str:
    """M or F, or empty."""
    letter = text.strip()[:1].upper()
    return letter if letter in ("M", "F") else ""


def clean_age(text: str) -> str:
    """Whole years, or empty for what is no age of a person: 58, 58.0, 058Y -> 58."""
    found = re.fullmatch(r"(\d{1,3})(\.\d+)?Y?\+?", text.strip())
    return str(int(found[1])) if found and int(found[1]) <= _OLDEST else ""


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, in order; hidden ones, such as macOS adds to archives, are not."""
    return sorted(
        path for path in folder.rglob("*") if not path.name.startswith(".") and path.is_file()
    )


def images_below(folder: Path) -> list[Path]:
    """The files below a folder that are images by their contents, in order."""
    return sort_files(folder).images


def subfolder(folder: Path, names: Iterable[str]) -> Path | None:
    """The first subfolder with one of the names, whatever the case."""
    own = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return next((own[name.lower()] for name in names if name.lower() in own), None)


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a table with a header, separated by commas, semicolons or tabs.

    Its column names become lower case.

    Raises:
        DataError: no such file, no CSV in UTF-8, or a column is missing.
    """
    try:
        text, separator = read_table_text(path)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = [name.strip().lower() for name in next(reader, [])]
        # Some releases end each row, but not the header, with a comma.
        rows = [dict(zip(header, row, strict=False)) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path} is not a CSV file in UTF-8: {problem}.") from problem
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}. Add it.")
    return [{name: plain_cell(row.get(name, "").strip()) for name in header} for row in rows]
