"""A selection of the gallery as a data set in a ZIP file, written while it is sent."""

import csv
import io
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import BadForm, NotFound
from app.core.safe_files import file_in
from app.gallery.tables import SyntheticImage
from ml.data.manifest import COLUMNS, MANIFEST, SYNTHETIC_COLUMN
from ml.gan.synthesis.folder import PRIVACY_CHECK_COLUMNS, PRIVACY_CHECKS
from ml.labels import label_name

MOST_IMAGES = 5000
FOLDER = "synthetic-images"
# Nothing of an image tells when it was made, so the same selection is the same file.
_TIME = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 256 * 1024
_README = """\
Synthetic images of chest X-rays. No person was X-rayed for any of them.

{images} image(s): {classes}.
Generator(s), by the SHA-256 of their files:
{generators}

Each image's PNG file says in its text what it is: synthetic, its generator, seed and class.
manifest.csv lists the images; its column "synthetic" names the generator. privacy checks.csv tells
how
near each image comes to the images that its generator learned from.

The folder is a data set as `xray train classifier --synthetic FOLDER` takes it: its images train,
and never validate or test. An image's class is what the generator was asked for, which no physician
has confirmed. For research and education; not for judging patients. Licences stand in the column
"license" of manifest.csv.
"""


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """An image of the archive.

    Attributes:
        path: its file.
        row: its row in the manifest, with the name that the image has in the archive.
        privacy check: its row in the privacy checks; empty where it was not compared.
    """

    path: Path
    row: dict[str, str]
    privacy_check: dict[str, str]


def choose(images: Sequence[SyntheticImage], folders: Mapping[str, Path]) -> list[ArchivedImage]:
    """Look the images up in their data sets; the same image out of two of them comes once.

    Args:
        images: of the gallery.
        folders: of their data versions, by SHA-256.

    Raises:
        BadForm: no image, or too many of them.
        NotFound: an image's file is gone.
    """
    if not images:
        raise BadForm({"images": "tick the images that you want, and then download them"})
    if len(images) > MOST_IMAGES:
        raise BadForm({"images": f"up to {MOST_IMAGES:,} images come at once, not {len(images):,}"})
    wanted = {(image.data_sha256, image.image): image for image in images}
    found: dict[tuple[str, str], ArchivedImage] = {}
    names: set[str] = set()
    for sha256, folder in folders.items():
        for row in _rows_of(folder):
            image = wanted.get((sha256, row["image"]))
            if image is None or (image.model_sha256, image.image) in found:
                continue
            name = image.image
            if name in names:
                # Another generator's set has an image of this name.
                name = f"images/{image.model_sha256[:12]}/{name.removeprefix('images/')}"
            names.add(name)
            try:
                path = file_in(folder, image.image)
            except NotFound as gone:
                raise NotFound(f"image {image.id} is no longer stored: leave it out") from gone
            privacy_check = image.privacy_check | {"file": name} if image.privacy_check else {}
            # Masks stay with their own set.
            row |= {"image": name, "lung_mask": ""}
            found[image.model_sha256, image.image] = ArchivedImage(path, row, privacy_check)
    return list(found.values())


def _rows_of(folder: Path) -> Iterator[dict[str, str]]:
    with (folder / MANIFEST).open(newline="", encoding="utf-8-sig") as lines:
        yield from csv.DictReader(lines, restval="")


def stream(images: Sequence[ArchivedImage]) -> Iterator[bytes]:
    """The ZIP file in pieces; one image is in memory at a time."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, text in _texts(images):
            archive.writestr(_entry(name, zipfile.ZIP_DEFLATED), text)
        for image in images:
            # A PNG is compressed already.
            archive.writestr(
                _entry(image.row["image"], zipfile.ZIP_STORED), image.path.read_bytes()
            )
            if pipe.waiting >= _CHUNK_BYTES:
                yield pipe.take()
    yield pipe.take()


def _texts(images: Sequence[ArchivedImage]) -> Iterator[tuple[str, str]]:
    yield "README.txt", _readme(images)
    yield MANIFEST, _as_csv((*COLUMNS, SYNTHETIC_COLUMN), [image.row for image in images])
    privacy_checks = [image.privacy_check for image in images if image.privacy_check]
    if privacy_checks:
        yield PRIVACY_CHECKS, _as_csv(PRIVACY_CHECK_COLUMNS, privacy_checks)


def _readme(images: Sequence[ArchivedImage]) -> str:
    classes = Counter(label_name(image.row["label"]) for image in images)
    generators = sorted({image.row[SYNTHETIC_COLUMN] for image in images})
    return _README.format(
        images=len(images),
        classes=", ".join(f"{count} {name}" for name, count in classes.items()),
        generators="\n".join(generators),
    )


def _as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _entry(name: str, compression: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(f"{FOLDER}/{name}", _TIME)
    entry.compress_type = compression
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


class _Pipe(io.RawIOBase):
    """What is written to it is taken out of it; it cannot go back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.waiting = 0

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self._parts.append(bytes(content))
        self.waiting += len(content)
        return len(content)

    def take(self) -> bytes:
        """Everything that was written since."""
        taken = b"".join(self._parts)
        self._parts.clear()
        self.waiting = 0
        return taken
