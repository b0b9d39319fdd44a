"""The layouts of public data sets, one function each: a folder -> candidate images."""

import hashlib
import hmac
import os
import re
import secrets
import warnings
from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset, dcmread

from ml.data.importers.records import (
    FINDING,
    LATERAL,
    MISSING,
    MODALITY,
    NO_LABEL,
    NO_PATIENT,
    UNREADABLE,
    Candidate,
    Found,
    Skipped,
    SourceOptions,
    class_of,
    clean_age,
    clean_sex,
    images_below,
    label_of,
    read_table,
    subfolder,
)
from ml.data.manifest import DEMONSTRATION
from ml.data.table_text import portable_path
from ml.errors import DataError
from ml.files import shown_path
from ml.imaging.dicom import is_dicom

Layout = Callable[[Path, SourceOptions], Found]
_HEAD_BYTES = 512
# Tables that layouts read.
LAYOUT_TABLES = ("metadata.csv", "Data_Entry_2017*.csv")
FRONTAL_VIEWS = ("PA", "AP", "AP Supine", "AP erect")


def covid_chestxray_dataset(src: Path, _options: SourceOptions) -> Found:
    """A checkout of covid-chestxray-dataset: `metadata.csv`, images in `images/`."""
    table = _expected_file(src, "metadata.csv", "a checkout of covid-chestxray-dataset")
    frontal = {view.lower(): view for view in FRONTAL_VIEWS}
    for row in read_table(table, ("patientid", "finding", "view", "modality", "filename")):
        path = src / (row.get("folder") or "images") / row["filename"]
        label, view = _cohen_label(row["finding"]), frontal.get(row["view"].lower())
        if row["modality"].lower() != "x-ray":
            yield Skipped(path, MODALITY, row["modality"])
        elif view is None:
            yield Skipped(path, LATERAL, row["view"])
        elif label is None:
            yield Skipped(path, FINDING, row["finding"])
        else:
            yield Candidate(
                path=path,
                label=label,
                source="cohen",
                site="collections",
                patient=row["patientid"] or path.stem,
                view=view,
                sex=clean_sex(row.get("sex", "")),
                age=clean_age(row.get("age", "")),
                finding=row["finding"],
                license=row.get("license", ""),
            )


def _cohen_label(finding: str) -> str | None:
    kinds = finding.split("/")
    if "COVID-19" in kinds:
        return "covid"
    return "pneumonia" if kinds[0] == "Pneumonia" else class_of(finding)


# Where most images of each class were taken: Valencia, Guangzhou, Bethesda.
_RADIOGRAPHY_SITES = {"covid": "bimcv", "pneumonia": "guangzhou", "normal": "nih"}


def radiography(src: Path, _options: SourceOptions) -> Found:
    """The COVID-19 Radiography Database: a folder per class, images in it or in its `images/`."""
    folders = {
        "covid": subfolder(src, ("COVID", "COVID-19")),
        "normal": subfolder(src, ("Normal",)),
        "pneumonia": subfolder(src, ("Viral Pneumonia", "Viral_Pneumonia")),
    }
    if not any(folders.values()):
        raise DataError(
            f"{src} is not the COVID-19 Radiography Database. Expected the folders COVID, Normal "
            "and Viral Pneumonia."
        )
    for label, folder in folders.items():
        if folder is None:
            continue
        masks = subfolder(folder, ("masks",)) or folder / "masks"
        for path in images_below(subfolder(folder, ("images",)) or folder):
            if path.is_relative_to(masks):
                continue
            mask = masks / path.name
            yield Candidate(
                path=path,
                label=label,
                source="radiography",
                site=_RADIOGRAPHY_SITES[label],
                patient=path.stem,
                finding=folder.name,
                license="research use",
                lung_mask=mask if mask.is_file() else None,
            )
    opacity = subfolder(src, ("Lung_Opacity", "Lung Opacity"))
    for path in images_below(subfolder(opacity, ("images",)) or opacity) if opacity else ():
        yield Skipped(path, FINDING, "Lung_Opacity")


_KERMANY_NAMES = (
    # person123_bacteria_456.jpeg. Bacteria and virus count their persons together in places: one
    # key for both joins at worst two children, and never parts the images of one.
    re.compile(r"person(?P<patient>\d+)_(?P<finding>bacteria|virus)_\d+", re.IGNORECASE),
    # IM-0115-0001.jpeg and NORMAL2-IM-1440-0001.jpeg are two series.
    re.compile(r"(?P<patient>(?:NORMAL2?-)?IM-\d+)-\d+(?:-\d+)*", re.IGNORECASE),
    # BACTERIA-1008087-0001.jpeg: the names before they came to Kaggle.
    re.compile(r"(?P<finding>NORMAL|BACTERIA|VIRUS)-(?P<patient>\d+)-\d+", re.IGNORECASE),
)


def kermany(src: Path, _options: SourceOptions) -> Found:
    """Kaggle's `chest_xray` of children in Guangzhou: train|val|test / NORMAL|PNEUMONIA."""
    home = subfolder(src, ("chest_xray",)) or src
    folders = [
        folder
        for part in ("train", "val", "test")
        for name in ("NORMAL", "PNEUMONIA")
        if (top := subfolder(home, (part,))) and (folder := subfolder(top, (name,)))
    ]
    if not folders:
        raise DataError(
            f"{src} is not a chest_xray folder. Expected train, val or test with NORMAL and "
            "PNEUMONIA."
        )
    for folder in folders:
        label = folder.name.lower()
        for path in images_below(folder):
            names = (form.fullmatch(path.stem) for form in _KERMANY_NAMES)
            found = next(filter(None, names), None)
            if found is None:
                yield Skipped(
                    path, NO_PATIENT, "expected a name like person1_virus_1 or IM-0115-0001"
                )
                continue
            groups = found.groupdict()
            yield Candidate(
                path=path,
                label=label,
                source="kermany",
                site="guangzhou",
                patient=f"{label}-{groups['patient'].lower()}",
                view="AP",
                finding=(groups.get("finding") or label).lower(),
                license="CC BY 4.0",
            )


def nih(src: Path, _options: SourceOptions) -> Found:
    """ChestX-ray14: `Data_Entry_2017*.csv`, images in any subfolder."""
    tables = sorted(src.glob("Data_Entry_2017*.csv"))
    if not tables:
        raise DataError(
            f"{src} is not ChestX-ray14. Expected Data_Entry_2017.csv or Data_Entry_2017_v2020.csv."
        )
    images = {path.name: path for path in images_below(src)}
    for row in read_table(tables[-1], ("image index", "finding labels", "patient id")):
        name, finding = row["image index"], row["finding labels"]
        labels = {"normal", "pneumonia"} & {class_of(word) for word in finding.split("|")}
        if not labels:
            yield Skipped(src / name, FINDING, finding)
        elif name not in images:
            yield Skipped(src / name, MISSING)
        else:
            yield Candidate(
                path=images[name],
                label=labels.pop(),
                source="nih",
                site="nih",
                patient=row["patient id"].zfill(8),
                view=row.get("view position", ""),
                sex=clean_sex(row.get("patient gender") or row.get("patient sex", "")),
                age=clean_age(row.get("patient age", "")),
                finding=finding,
                license="free use with credit",
            )


def folders(src: Path, options: SourceOptions) -> Found:
    """Images below folders that are named after classes.

    Raises:
        DataError: the name of a folder cannot be that of a class.
    """
    pattern = _patient_pattern(options.patient_pattern)
    class_folder = _ClassFolders(src)
    for path in images_below(src):
        inner = path.relative_to(src)
        finding = class_folder.of(inner)
        patient = pattern.search(shown_path(inner)) if pattern else None
        if not finding:
            yield Skipped(path, NO_LABEL, "not in a folder named after a class")
        elif pattern and not (patient and patient[1]):
            yield Skipped(path, NO_PATIENT, f"{pattern.pattern} does not match")
        else:
            yield Candidate(
                path=path,
                label=label_of(finding, src),
                source=_source_name(src, options),
                patient=patient[1] if patient else shown_path(Path(path.stem)),
                finding=finding,
            )


# Folders that hold those of the classes, and folders of what is of no class.
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "images", "data"})
_NO_CLASS = frozenset({"other", "others", "misc", "unknown", "unlabelled", "masks", "lung_masks"})


class _ClassFolders:
    """Which of the folders above an image is named after its class.

    The innermost one with the name of a known class is. Where there are such, folders beside them
    are classes too, whatever their names; where there are none, the outermost folder is the class,
    past those that only divide the set.
    """

    def __init__(self, src: Path):
        folders = {path.relative_to(src).parent for path in images_below(src)}
        above = {each for folder in folders for each in (folder, *folder.parents) if each.name}
        self._parents = {folder.parent for folder in above if class_of(folder.name)}

    def of(self, image: Path) -> str:
        """The name of the class's folder for an image's path below the source; or empty."""
        folders = [each for each in image.parents if each.name]
        named = [each.name for each in folders if class_of(each.name)]
        beside = [each.name for each in folders if each.parent in self._parents]
        outer = [each.name for each in reversed(folders) if each.name.lower() not in _PARTS]
        found = [*named, *beside] if self._parents else outer
        return shown_path(Path(found[0])) if found and found[0].lower() not in _NO_CLASS else ""


def _patient_pattern(text: str) -> re.Pattern[str] | None:
    if not text:
        return None
    try:
        pattern = re.compile(text)
    except re.error as problem:
        raise DataError(
            f"--patient-pattern {text!r} is not a regular expression: {problem}."
        ) from problem
    if pattern.groups != 1:
        raise DataError(f"--patient-pattern {text!r} needs exactly one group, such as (p[0-9]+)_.")
    return pattern


_LATERAL_VIEWS = ("LL", "RL", "LAT", "LATERAL", "LLO", "RLO", "RAO", "LAO")


def dicom(src: Path, options: SourceOptions) -> Found:
    """DICOM files below a folder and a CSV of labels, by file or by SOPInstanceUID."""
    if options.labels is None:
        raise DataError(
            "DICOM files need --label-file FILE, a CSV file with the columns file or "
            "SOPInstanceUID, and label."
        )
    table = read_table(options.labels, ("label",))
    key = next((name for name in ("file", "sopinstanceuid") if table and name in table[0]), None)
    if key is None:
        raise DataError(f"{options.labels} needs rows and a column file or SOPInstanceUID.")
    # Tables of Windows have backslashes in their paths.
    rows = {portable_path(row[key]): row for row in table}
    seen = set()
    for path in images_below(src):
        if path.resolve() == options.labels.resolve():
            continue
        header = _dicom_header(path)
        if isinstance(header, Skipped):
            yield header
            continue
        name = shown_path(path.relative_to(src))
        name = name if key == "file" else str(header.get("SOPInstanceUID", ""))
        seen.add(name)
        yield _dicom_image(path, header, rows.get(name), src, options)
    for name in rows:
        if name not in seen:
            yield Skipped(src / name, MISSING)


def _dicom_image(
    path: Path, header: Dataset, row: dict[str, str] | None, src: Path, options: SourceOptions
) -> Candidate | Skipped:
    if row is None:
        return Skipped(path, NO_LABEL, f"not in {options.labels}")
    view = str(header.get("ViewPosition") or "").upper()
    number = str(header.get("PatientID") or "").strip()
    if not row["label"]:
        return Skipped(path, NO_LABEL, f"empty in {options.labels}")
    if view in _LATERAL_VIEWS:
        return Skipped(path, LATERAL, view)
    if not row.get("patient") and not number:
        return Skipped(path, NO_PATIENT, "no PatientID, and none in the CSV")
    return Candidate(
        path=path,
        label=label_of(row["label"], options.labels or src),
        source=_source_name(src, options),
        patient=row.get("patient") or _hashed(number, options.salt_file),
        finding=row["label"],
    )


def _dicom_header(path: Path) -> Dataset | Skipped:
    tags = ["SOPInstanceUID", "PatientID", "ViewPosition"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Some exports are a data set alone, without the header of a file.
            with path.open("rb") as file:
                force = is_dicom(file.read(_HEAD_BYTES))
            return dcmread(path, stop_before_pixels=True, specific_tags=tags, force=force)
    except Exception as error:
        # pydicom raises whatever it likes on damaged files, struct.error and KeyError included.
        return Skipped(path, UNREADABLE, f"no DICOM file, or a damaged one: {error}")


def _hashed(number: str, salt_file: Path) -> str:
    """A key that does not reveal the patient's number without the salt."""
    if not salt_file.exists():
        salt_file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(salt_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    salt = bytes.fromhex(salt_file.read_text())
    return hmac.new(salt, number.encode(), hashlib.sha256).hexdigest()[:16]


def source_slug(text: str) -> str:
    """A source's name made of other words: small letters, digits and hyphens; may be empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _source_name(src: Path, options: SourceOptions) -> str:
    name = options.source or source_slug(src.resolve().name)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise DataError(
            f"{name!r} cannot be the name of a source. Give --source with a-z, 0-9 and -."
        )
    if name == DEMONSTRATION:
        raise DataError(
            f"The source {name!r} is reserved for the demonstration set. Give another --source."
        )
    return name


def _expected_file(src: Path, name: str, what: str) -> Path:
    if not (src / name).is_file():
        raise DataError(f"{src} is not {what}. Expected {name} in it.")
    return src / name


LAYOUTS: dict[str, Layout] = {
    "covid-chestxray-dataset": covid_chestxray_dataset,
    "radiography": radiography,
    "kermany": kermany,
    "nih": nih,
    "folders": folders,
    "dicom": dicom,
}
