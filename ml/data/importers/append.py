"""A data set that images are added to: as it was found, and as it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml.data.manifest import COLUMNS, MANIFEST, class_count_fault, read_manifest_rows
from ml.data.table_text import csv_text
from ml.errors import DataError
from ml.files import write_whole

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Present:
    """The data set as it was found: nothing of it is changed before the end."""

    text: bytes
    columns: list[str]
    rows: list[Row]

    @classmethod
    def read(cls, root: Path) -> "Present":
        """Read and check a manifest; none is a data set without images.

        Raises:
            DataError: as `ml.data.manifest.read_manifest_rows`.
        """
        manifest = root / MANIFEST
        if not manifest.exists():
            return cls(b"", [], [])
        return cls(manifest.read_bytes(), *read_manifest_rows(root))

    def aliases(self) -> dict[str, str]:
        """Other key of a patient -> the key in the manifest."""
        return aliases_of(self.rows)


def aliases_of(rows: Sequence[Row]) -> dict[str, str]:
    """Other key of a patient -> the key in the rows."""
    return {
        other: row["patient"]
        for row in rows
        for other in row.get("also_patient", "").split(";")
        if other
    }


def write_manifest(
    to: Path, present: Present, rows: Sequence[Row], aliases: Mapping[str, str]
) -> None:
    """Replace a manifest in one step.

    Args:
        to: the data set's folder.
        present: what was found there.
        rows: all that it is to have.
        aliases: other keys of patients that were learned meanwhile, and the keys in the rows.

    Raises:
        DataError: there are too many classes, or something else has changed the manifest
            meanwhile.
    """
    if fault := class_count_fault(row["label"] for row in rows):
        raise DataError(f"The images cannot be added to {to}. {fault}")
    others: dict[str, list[str]] = {}
    for other, key in (present.aliases() | dict(aliases)).items():
        others.setdefault(key, []).append(other)
    named = [
        row | {"also_patient": ";".join(sorted(others.get(row["patient"], ())))} for row in rows
    ]
    columns = dict.fromkeys([*COLUMNS, *present.columns, *(name for row in rows for name in row)])
    manifest = to / MANIFEST
    now = manifest.read_bytes() if manifest.exists() else b""
    if now != present.text:
        raise DataError(f"{manifest} was changed during the import. Import again.")
    write_whole(manifest, csv_text(list(columns), named).encode())
