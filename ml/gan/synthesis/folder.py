"""A data set of synthetic images: a manifest as any other's, a privacy check and thumbnail of each.

Images come first, privacy checks second, the manifest last: whatever interrupts, the manifest names
complete images alone, so the same command resumes there.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml.data.manifest import COLUMNS, MANIFEST, SYNTHETIC_COLUMN, read_manifest_rows
from ml.data.table_text import csv_text, plain_rows
from ml.errors import DataError, counted
from ml.files import write_whole
from ml.legacy import rename_keys

PRIVACY_CHECKS = "privacy_checks.csv"
PRIVACY_CHECKS_OF_0_1 = "certificates.csv"
THUMBNAILS = "thumbnails"
PRIVACY_CHECK_COLUMNS = (
    "seed",
    "file",
    "label",
    "generator_sha256",
    "truncation",
    "nearest_percentile",
    "pixel_percentile",
    "embedding_percentile",
    "near_copy",
    "realism",
    "features",
    "training_images",
    "held_out_images",
    "generator_learned_from_them",
    "images_sha256",
)
Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to be added.

    Attributes:
        content: its PNG file.
        thumbnail: its JPEG file, small and marked.
        row: its row in the manifest.
        privacy check: its row in the privacy checks; None where it was not compared.
    """

    content: bytes
    thumbnail: bytes
    row: Row
    privacy_check: Row | None


class SyntheticFolder:
    """A folder of synthetic images as it is on disk."""

    def __init__(self, root: Path):
        """Read what is there; nothing is written yet.

        Raises:
            DataError: the folder is a data set with real images, or one with faults.
        """
        self.root = root
        manifest, privacy_checks = root / MANIFEST, root / PRIVACY_CHECKS
        self._text = manifest.read_bytes() if manifest.exists() else b""
        columns, rows = read_manifest_rows(root) if self._text else ([], [])
        real = [row["image"] for row in rows if not row.get(SYNTHETIC_COLUMN)]
        if real:
            raise DataError(
                f"{root} has {counted(len(real), 'image')} not marked as synthetic, such as "
                f"{real[0]}. Write synthetic images to a separate folder, so that they do not "
                "count as patients."
            )
        self._columns = list(dict.fromkeys([*COLUMNS, SYNTHETIC_COLUMN, *columns]))
        self.rows = {row["image"]: row for row in rows}
        self.privacy_checks = read_privacy_checks(privacy_checks)

    def change(self, added: Sequence[NewImage], removed: Sequence[str]) -> None:
        """Add images and take others out, by the name of their image.

        Raises:
            DataError: the manifest was changed by something else meanwhile.
            OSError: there is no room, or no right to write; the manifest stays as it was.
        """
        for radiograph in added:
            image = radiograph.row["image"]
            for name, content in (
                (image, radiograph.content),
                (thumbnail_name(image), radiograph.thumbnail),
            ):
                path = self.root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, content)
        gone = [image for image in removed if image in self.rows]
        self.rows |= {radiograph.row["image"]: radiograph.row for radiograph in added}
        self.privacy_checks |= {f.row["image"]: f.privacy_check for f in added if f.privacy_check}
        for image in gone:
            del self.rows[image]
            self.privacy_checks.pop(image, None)
        if added or gone:
            self._write()
        for image in gone:
            for name in (image, thumbnail_name(image)):
                (self.root / name).unlink(missing_ok=True)

    def _write(self) -> None:
        if self.privacy_checks:
            write_privacy_checks(self.root / PRIVACY_CHECKS, self.privacy_checks)
        manifest = self.root / MANIFEST
        now = manifest.read_bytes() if manifest.exists() else b""
        if now != self._text:
            raise DataError(f"{manifest} was changed by another program. Run the command again.")
        if not self.rows:
            # A manifest without rows is none.
            manifest.unlink()
            self._text = b""
            return
        text = _as_csv(self._columns, self.rows)
        write_whole(manifest, text)
        self._text = text


def thumbnail_name(image: str) -> str:
    """Where the thumbnail of an image lies in the folder."""
    return f"{THUMBNAILS}/{image}.jpg"


def read_privacy_checks(path: Path) -> dict[str, Row]:
    """The privacy checks of images by the name of their image; none where there is no such file.

    Raises:
        DataError: the file is no CSV.
    """
    if not path.exists():
        path = path.with_name(PRIVACY_CHECKS_OF_0_1)
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = [rename_keys(row) for row in plain_rows(csv.DictReader(lines, restval=""))]
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path} is not a CSV file in UTF-8: {problem}.") from problem
    return {row.get("file", ""): row for row in rows}


def write_privacy_checks(path: Path, privacy_checks: Mapping[str, Row]) -> None:
    """Write the privacy checks of images, by the name of their image, in one step."""
    write_whole(path, _as_csv(PRIVACY_CHECK_COLUMNS, privacy_checks))


def _as_csv(columns: Sequence[str], rows: Mapping[str, Row]) -> bytes:
    return csv_text(columns, rows.values()).encode()
