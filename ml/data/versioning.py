"""Freezing a data set: the hash of its content, a summary and a contact sheet.

The hash names the content wherever the folder is: neither the order of rows nor the dates of files
matter. A frozen folder never changes; runs and models refer to their data by the hash.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ml.data.importers.convert import reduce
from ml.data.manifest import (
    DEMONSTRATION,
    ImageRecord,
    labels_of,
    read_manifest_rows,
    real_images,
    record_of,
)
from ml.data.near_duplicates import hash_records
from ml.data.summary import (
    DataSetSummary,
    DuplicateExamples,
    Duplicates,
    count_by,
    find_duplicates,
    warnings_of,
)
from ml.errors import DataError
from ml.files import write_whole
from ml.gan.synthesis.folder import PRIVACY_CHECKS, read_privacy_checks
from ml.imaging.decode import read_image
from ml.json_model import InvalidJson
from ml.labels import label_name

SUMMARY = "summary.json"
CONTACT_SHEET = "contact-sheet.jpg"
# Pairs and groups that the summary names.
_EXAMPLES = 20
# The contact sheet, in pixels.
SHEET_IMAGES = 24
_COLUMNS = 8
_SIDE = 96
_GAP = 4
_HEAD = 28
_LETTERS = 16
_INK, _PAPER = 235, 24
# The words of version 0.1.0 are part of the hash: a data set frozen then keeps its SHA-256.
_HASHED_AS = {
    "training_images": "training_films",
    "held_out_images": "held_out_films",
    "images_sha256": "films_sha256",
}
Row = dict[str, str]


def freeze(folder: Path, on_image: Callable[[], None] = lambda: None) -> DataSetSummary:
    """Check a data set, hash its content and write its summary.

    Writes `contact-sheet.jpg`, then `summary.json`, which marks the folder as frozen. The same
    content always gets the same two files.

    Args:
        folder: of the data set.
        on_image: called twice per image: after hashing its file and after decoding it.

    Raises:
        DataError: lists every fault of the manifest, or the images that cannot be read.
    """
    rows = read_manifest_rows(folder)[1]
    records = [record_of(folder, row) for row in rows]
    digests = [_file_sha256(folder / row["image"], on_image) for row in rows]
    sha256 = _content_sha256(folder, rows, digests)
    duplicates = find_duplicates(records, hash_records(records, on_image))
    summary = _summarise(folder, sha256, records, duplicates)
    _draw_contact_sheet(records, digests, folder / CONTACT_SHEET)
    write_whole(folder / SUMMARY, summary.to_json())
    return summary


def read_version(folder: Path) -> DataSetSummary:
    """Read the summary of a frozen data set. Its images are not read.

    Raises:
        DataError: the folder is not frozen, or its summary is damaged.
    """
    path = folder / SUMMARY
    if not path.is_file():
        raise DataError(f"{folder} is not frozen. Freeze it first: xray data freeze {folder}")
    try:
        return DataSetSummary.from_json(path.read_bytes())
    except InvalidJson as problem:
        raise DataError(
            f"{path} is damaged: {problem}. Freeze the folder again: xray data freeze {folder}"
        ) from problem


def verify_version(folder: Path) -> DataSetSummary:
    """Check that a data set has not changed since it was frozen. Every file is read.

    Raises:
        DataError: it is not frozen, or its content has changed.
    """
    summary = read_version(folder)
    rows = read_manifest_rows(folder)[1]
    found = _content_sha256(folder, rows, [_file_sha256(folder / row["image"]) for row in rows])
    if found != summary.sha256:
        raise DataError(
            f"{folder} was changed after it was frozen. Its content has SHA-256 {found[:12]}..., "
            f"its summary states {summary.sha256[:12]}.... Use an intact copy, or freeze it as "
            "another data set."
        )
    return summary


def _content_sha256(folder: Path, rows: Sequence[Row], digests: Sequence[str]) -> str:
    """One hash of rows, images, lung masks and privacy checks.

    The hash names data sets in databases, cards and reports, so its input never changes: it calls
    things as version 0.1.0 did.
    """
    whole = hashlib.sha256()
    for line in sorted(_content_lines(folder, rows, digests)):
        whole.update(line.encode() + b"\n")
    return whole.hexdigest()


def _content_lines(folder: Path, rows: Sequence[Row], digests: Sequence[str]) -> Iterator[str]:
    for row, digest in zip(rows, digests, strict=True):
        mask = row.get("lung_mask")
        files = [digest, _file_sha256(folder / mask)] if mask else [digest]
        yield _line("film", row, files)
    for privacy_check in read_privacy_checks(folder / PRIVACY_CHECKS).values():
        row = {_HASHED_AS.get(name, name): value for name, value in privacy_check.items()}
        yield _line("certificate", row, [])


def _line(what: str, row: Row, files: Sequence[str]) -> str:
    # A column that is empty says no more than one that is missing.
    filled = {name: value for name, value in row.items() if value}
    return json.dumps([what, filled, files], sort_keys=True)


def _file_sha256(path: Path, on_image: Callable[[], None] = lambda: None) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    on_image()
    return digest


def _summarise(
    folder: Path, sha256: str, records: Sequence[ImageRecord], duplicates: Duplicates
) -> DataSetSummary:
    labels, real = Counter(record.label for record in records), real_images(records)
    return DataSetSummary(
        sha256=sha256,
        images=len(records),
        by_label={label: labels[label] for label in labels_of(records)},
        by_source=_nested(records, lambda image: image.source),
        by_split=_nested(records, lambda image: image.split.value),
        patients=len({record.patient for record in records}),
        duplicates=sum(map(len, duplicates.groups)),
        leaks=duplicates.leak_count,
        conflicts=len(duplicates.conflicts),
        examples=DuplicateExamples(
            leaks=_named(folder, duplicates.leaks),
            conflicts=_named(folder, duplicates.conflicts),
        ),
        warnings=warnings_of(real or records),
        synthetic=len(records) - len(real),
        demonstration=sum(record.source == DEMONSTRATION for record in records),
    )


def _nested(
    records: Sequence[ImageRecord], feature: Callable[[ImageRecord], str]
) -> dict[str, dict[str, int]]:
    found, labels = count_by(records, feature).items(), labels_of(records)
    return {value: {label: counts[label] for label in labels} for value, counts in found}


def _named(folder: Path, groups: Iterable[Iterable[ImageRecord]]) -> list[list[str]]:
    named = [sorted(image.path.relative_to(folder).as_posix() for image in one) for one in groups]
    return sorted(named)[:_EXAMPLES]


# --- the contact sheet ------------------------------------------------------------------------


def _draw_contact_sheet(records: Sequence[ImageRecord], digests: Sequence[str], path: Path) -> None:
    """Some images of each class, chosen by their hash: neither the first nor the best ones."""
    chosen = []
    for label in labels_of(records):
        own = [
            (digest, image)
            for digest, image in zip(digests, records, strict=True)
            if image.label == label
        ]
        first = sorted(own, key=lambda one: one[0])[:SHEET_IMAGES]
        if own:
            chosen.append(
                (f"{label_name(label)}: {len(own)} images", [image for _, image in first])
            )
    width = _GAP + _COLUMNS * (_SIDE + _GAP)
    heights = [_HEAD + -(-len(images) // _COLUMNS) * (_SIDE + _GAP) for _, images in chosen]
    sheet = Image.new("L", (width, sum(heights) + _GAP), _PAPER)
    top = 0
    for (title, images), height in zip(chosen, heights, strict=True):
        _draw_block(sheet, top, title, images)
        top += height
    write_whole(path, lambda file: sheet.save(file, "JPEG", quality=88))


def _draw_block(sheet: Image.Image, top: int, title: str, images: Sequence[ImageRecord]) -> None:
    font = ImageFont.load_default(_LETTERS)
    ImageDraw.Draw(sheet).text((2 * _GAP, top + _HEAD // 2), title, _INK, font, anchor="lm")
    for number, image in enumerate(images):
        row, column = divmod(number, _COLUMNS)
        left = _GAP + column * (_SIDE + _GAP)
        sheet.paste(_small(image), (left, top + _HEAD + row * (_SIDE + _GAP)))


def _small(record: ImageRecord) -> Image.Image:
    """An image in the middle of a black square."""
    content = record.path.read_bytes()
    radiograph = read_image(content, shortest=2 * _SIDE, least_side=record.least_side)
    image = Image.fromarray(reduce(radiograph.pixels, 2 * _SIDE))
    scale = _SIDE / max(image.size)
    size = [max(1, round(scale * side)) for side in image.size]
    small = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    square = Image.new("L", (_SIDE, _SIDE))
    square.paste(small, ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2))
    return square
