"""Sealing a data set: the hash of its content, a summary of what is in it, a contact sheet.

The hash names the content wherever the folder lies: neither the order of the rows nor dates of
files matter. A frozen folder is not changed any more; a run names the data it used by the hash.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ml.data.importers.convert import reduce
from ml.data.manifest import (
    DEMONSTRATION,
    ImageRecord,
    labels_of,
    read_rows,
    real_images,
    record_of,
)
from ml.data.near_duplicates import hash_records
from ml.data.summary import Duplicates, count_by, find_duplicates, warnings_of
from ml.errors import DataError
from ml.files import write_whole
from ml.gan.synthesis.folder import PRIVACY_CHECKS, read_privacy_checks
from ml.imaging.decode import read_image
from ml.labels import label_name
from ml.legacy import rename_keys

SUMMARY = "summary.json"
CONTACT_SHEET = "contact-sheet.jpg"
# What a summary is read by; a freeze without one of these is none of ours.
_KEYS = (
    "sha256",
    "images",
    "by_label",
    "by_source",
    "by_split",
    "patients",
    "duplicates",
    "leaks",
    "conflicts",
    "examples",
    "warnings",
    "synthetic",
    "demonstration",
)
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


def freeze(folder: Path, on_image: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Check a data set, hash its content, and write what is in it.

    Writes `contact-sheet.jpg` and then `summary.json`, which makes the folder a frozen one. The
    same content gets the same two files.

    Args:
        folder: of the data set.
        on_image: called twice for each image: when its file is hashed, and when it is looked at.

    Returns:
        The summary: `sha256`; `images` and `patients`, how many; `by_label`; `by_source` and
        `by_split`, each value -> label -> images; how many images are `duplicates` of others, how
        many pairs of these `leaks` from one split to another, how many groups have `conflicts`
        of labels, and `examples` of the last two by image; `warnings` in plain words; how many
        images are `synthetic`, and how many of the `demonstration`.

    Raises:
        DataError: names every fault of the manifest, or the images that cannot be read.
    """
    rows = read_rows(folder)[1]
    records = [record_of(folder, row) for row in rows]
    digests = [_file_sha256(folder / row["image"], on_image) for row in rows]
    sha256 = _content_sha256(folder, rows, digests)
    duplicates = find_duplicates(records, hash_records(records, on_image))
    summary = {
        "sha256": sha256,
        **_counts(records),
        "duplicates": sum(map(len, duplicates.groups)),
        "leaks": duplicates.leak_count,
        "conflicts": len(duplicates.conflicts),
        "examples": _examples(folder, duplicates),
        "warnings": warnings_of(real_images(records) or records),
        "synthetic": len(records) - len(real_images(records)),
        "demonstration": sum(record.source == DEMONSTRATION for record in records),
    }
    _draw_contact_sheet(records, digests, folder / CONTACT_SHEET)
    write_whole(folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def read_version(folder: Path) -> dict[str, Any]:
    """The summary of a frozen data set, as `freeze` returned it. No image is looked at.

    Raises:
        DataError: the folder is not frozen, or its summary is none of ours.
    """
    path = folder / SUMMARY
    if not path.is_file():
        raise DataError(f"no {SUMMARY} in {folder}: freeze it first (xray data freeze {folder})")
    try:
        summary = rename_keys(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as problem:
        raise DataError(f"{path} is damaged ({problem}): freeze the folder again") from problem
    missing = [key for key in _KEYS if key not in summary] if isinstance(summary, dict) else _KEYS
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}: freeze the folder again")
    found: dict[str, Any] = summary
    return found


def verify_version(folder: Path) -> dict[str, Any]:
    """Check that a data set is what it was when it was frozen; every file is read.

    Returns:
        Its summary.

    Raises:
        DataError: it is not frozen, or its content is another one now.
    """
    summary = read_version(folder)
    rows = read_rows(folder)[1]
    found = _content_sha256(folder, rows, [_file_sha256(folder / row["image"]) for row in rows])
    if found != summary["sha256"]:
        raise DataError(
            f"{folder} was changed after it was frozen: its content has SHA-256 {found[:12]}..., "
            f"and the freeze says {summary['sha256'][:12]}...: take a copy that is whole, or "
            f"freeze it "
            "as another data set"
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


def _counts(records: Sequence[ImageRecord]) -> dict[str, Any]:
    labels = Counter(record.label for record in records)
    return {
        "images": len(records),
        "by_label": {label: labels[label] for label in labels_of(records)},
        "by_source": _nested(records, lambda image: image.source),
        "by_split": _nested(records, lambda image: image.split.value),
        "patients": len({record.patient for record in records}),
    }


def _nested(
    records: Sequence[ImageRecord], feature: Callable[[ImageRecord], str]
) -> dict[str, dict[str, int]]:
    found, labels = count_by(records, feature).items(), labels_of(records)
    return {value: {label: counts[label] for label in labels} for value, counts in found}


def _examples(folder: Path, duplicates: Duplicates) -> dict[str, list[list[str]]]:
    """Leaks and conflicts by the names of their images, in their order."""
    return {
        "leaks": _named(folder, duplicates.leaks),
        "conflicts": _named(folder, duplicates.conflicts),
    }


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
