"""A selection of the gallery as a data set in a ZIP file."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import InvalidForm, NotFound
from app.core.safe_files import file_in
from app.gallery.tables import SyntheticImage
from ml.data.manifest import COLUMNS, MANIFEST, SYNTHETIC_COLUMN
from ml.data.table_text import csv_text, plain_rows
from ml.errors import counted
from ml.gan.synthesis.folder import PRIVACY_CHECK_COLUMNS, PRIVACY_CHECKS
from ml.labels import label_name
from ml.texts import msg

MOST_IMAGES = 5000
FOLDER = "synthetic-images"
_README = """\
Synthetic chest X-ray images. No person was X-rayed for any of them.

{images}: {classes}.
SHA-256 of the generators' files:
{generators}

The text of each PNG file states that the image is synthetic, and its generator, seed and class.
manifest.csv lists the images; its column "synthetic" names the generator. privacy_checks.csv states
how similar each image is to the images that its generator was trained on.

The folder is a data set for `xray train classifier --synthetic FOLDER`: its images are used for
training, never for validation or testing. An image's class is the one that the generator was asked
for; no physician has confirmed it. For research and education, not for judging patients. The column
"license" of manifest.csv states the licence of each image.
"""


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """An image of the archive.

    Attributes:
        path: its file.
        row: its row in the manifest, with the name that the image has in the archive.
        privacy_check: its row in the privacy checks; empty where it was not compared.
    """

    path: Path
    row: dict[str, str]
    privacy_check: dict[str, str]


def archived_images(
    images: Sequence[SyntheticImage], folders: Mapping[str, Path]
) -> list[ArchivedImage]:
    """Look the images up in their data sets; the same image out of two of them comes once.

    Args:
        images: of the gallery.
        folders: of their data versions, by SHA-256.

    Raises:
        InvalidForm: no image.
        NotFound: an image's file is gone.
    """
    if not images:
        raise InvalidForm(
            {"images": msg("No image is selected. Select images, then download them.")}
        )
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
                raise NotFound(
                    msg(
                        "Image %(id)s is no longer stored. Remove it from the selection.",
                        id=image.id,
                    )
                ) from gone
            privacy_check = image.privacy_check | {"file": name} if image.privacy_check else {}
            # Masks stay with their own set.
            row |= {"image": name, "lung_mask": ""}
            found[image.model_sha256, image.image] = ArchivedImage(path, row, privacy_check)
    return list(found.values())


def _rows_of(folder: Path) -> Iterator[dict[str, str]]:
    with (folder / MANIFEST).open(newline="", encoding="utf-8-sig") as lines:
        yield from plain_rows(csv.DictReader(lines, restval=""))


def entries(images: Sequence[ArchivedImage]) -> dict[str, Path | str]:
    """The content of the ZIP file by name: a readme, a data set's tables, and the images."""
    found: dict[str, Path | str] = {
        "README.txt": _readme(images),
        MANIFEST: csv_text((*COLUMNS, SYNTHETIC_COLUMN), [image.row for image in images]),
    }
    privacy_checks = [image.privacy_check for image in images if image.privacy_check]
    if privacy_checks:
        found[PRIVACY_CHECKS] = csv_text(PRIVACY_CHECK_COLUMNS, privacy_checks)
    found |= {image.row["image"]: image.path for image in images}
    return {f"{FOLDER}/{name}": content for name, content in found.items()}


def _readme(images: Sequence[ArchivedImage]) -> str:
    classes = Counter(label_name(image.row["label"]) for image in images)
    generators = sorted({image.row[SYNTHETIC_COLUMN] for image in images})
    return _README.format(
        images=counted(len(images), "image"),
        classes=", ".join(f"{count} {name}" for name, count in classes.items()),
        generators="\n".join(generators),
    )
