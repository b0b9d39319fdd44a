"""The one way of an image into a data set, whatever layout it was found in."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml.data.importers.append import Present, Row, write_manifest
from ml.data.importers.convert import DIGEST_LENGTH, Decoded, Stage, digest_of
from ml.data.importers.deduplicate import SAME_FILE, Known, Resolution, resolve_duplicates
from ml.data.importers.layouts import LAYOUT_TABLES, LAYOUTS
from ml.data.importers.records import MISSING, UNREADABLE, Candidate, Skipped, SourceOptions
from ml.data.manifest import SYNTHETIC_COLUMN
from ml.data.near_duplicates import Hashes, hash_images
from ml.data.table_text import csv_line
from ml.errors import DataError, counted
from ml.files import shown_path, write_whole
from ml.imaging.image_files import sort_files
from ml.imaging.preprocessing import BlankImage
from ml.imaging.types import UnreadableImage
from ml.progress import tracked

SHORT_SIDE = 256
STAGING = ".import-part"
MASK = "unreadable lung mask, image taken without it"


@dataclass(frozen=True, slots=True)
class Report:
    """What an import did.

    Attributes:
        added: images added, by label.
        total: images in the data set now.
        left_out: images not taken, and masks not taken, each with its reason.
        changed: images that were there and now have another label or patient.
    """

    added: Counter[str]
    total: int
    left_out: list[Skipped]
    changed: int = 0


def import_images(
    kind: str,
    src: Path,
    to: Path,
    options: SourceOptions | None = None,
    *,
    short_side: int = SHORT_SIDE,
    keep_duplicates: bool = False,
    on_image: Callable[[], None] = lambda: None,
) -> Report:
    """Import the images of a public data set.

    The manifest is replaced as the last step: until then the data set is unchanged. The same
    call resumes an interrupted import.

    Args:
        kind: the layout of `src`, one of `LAYOUTS`.
        src: the folder as it was downloaded.
        to: the data set's folder; made where it is missing, added to where it is not.
        options: what the layout needs beyond the folder.
        short_side: images are reduced to this, in pixels; 0 keeps their size.
        keep_duplicates: take near-duplicates of the same label too, under one patient.
        on_image: called before each image that was found is read; may raise to stop.

    Raises:
        DataError: an unknown layout, no image to take, no readable image, or a data set with
            faults.
    """
    if kind not in LAYOUTS:
        raise DataError(f"Unknown kind {kind!r}. Expected one of {', '.join(LAYOUTS)}.")
    if not src.is_dir():
        raise DataError(f"There is no folder {src}.")
    options = options or SourceOptions(salt_file=to / ".patient-salt")
    present = Present.read(to)
    found = list(LAYOUTS[kind](src, options))
    left_out = [one for one in found if isinstance(one, Skipped)]
    left_out += _other_files(src, found, options)
    candidates = [one for one in found if isinstance(one, Candidate)]
    if not candidates:
        raise DataError(f"{src} has no image to import{_reasons(left_out)}")
    stage = Stage(to / STAGING, short_side)
    images, unused = _decode(candidates, stage, present, on_image)
    left_out += unused
    if not images and all(one.reason in (MISSING, UNREADABLE) for one in unused):
        found_images = counted(len(candidates), "image")
        raise DataError(f"None of {found_images} in {src} can be read{_reasons(left_out)}")

    settled, refused = _settle(present, to, images, keep_duplicates=keep_duplicates)
    left_out += refused
    if not settled.taken and not present.rows:
        raise DataError(f"All images of {src} were left out{_reasons(left_out)}")
    taken = [(*images[number], patient) for number, patient in settled.taken.items()]
    added = [_move_in(to, stage, *image) for image in taken]
    if added or settled.aliases:
        write_manifest(to, present, [*present.rows, *added], settled.aliases)
    shutil.rmtree(to / STAGING)
    report = Report(
        Counter(row["label"] for row in added), len(present.rows) + len(added), left_out
    )
    write_left_out(to / left_out_name(kind), left_out)
    return report


def _other_files(
    src: Path, found: Sequence[Candidate | Skipped], options: SourceOptions
) -> list[Skipped]:
    """The files of a folder that are no images and that its layout says nothing of."""
    known = {one.path for one in found}
    known |= {one.lung_mask for one in found if isinstance(one, Candidate) and one.lung_mask}
    tables = {path.resolve() for name in LAYOUT_TABLES for path in src.glob(name)}
    if options.labels:
        tables.add(options.labels.resolve())
    return [
        Skipped(path, reason)
        for path, reason in sort_files(src).left_out
        if path not in known and path.resolve() not in tables
    ]


def left_out_name(kind: str) -> str:
    """The name of the file that lists what an import left out."""
    return f"left-out-{kind}.csv"


def _reasons(left_out: Sequence[Skipped]) -> str:
    counts = Counter(one.reason for one in left_out).most_common()
    lines = [f"\n  {count} {reason}" for reason, count in counts]
    examples = [f"\n  {shown_path(one.path)}: {one.detail or one.reason}" for one in left_out[:5]]
    return ":" + "".join(lines + examples) if lines else ". It is empty."


def _decode(
    candidates: Sequence[Candidate], stage: Stage, present: Present, on_image: Callable[[], None]
) -> tuple[list[tuple[Candidate, Decoded]], list[Skipped]]:
    known = {(_digest(row), row["label"], row["patient"]): row["image"] for row in present.rows}
    aliases = present.aliases()
    images, left_out = [], []
    for candidate in tracked(candidates, "reading images"):
        on_image()
        try:
            content = candidate.path.read_bytes()
        except FileNotFoundError:
            left_out.append(Skipped(candidate.path, MISSING))
            continue
        except OSError as problem:
            left_out.append(Skipped(candidate.path, UNREADABLE, problem.strerror or str(problem)))
            continue
        # A set that grew is imported again: what is known of it needs no second look.
        image = known.get((digest_of(content), candidate.label, _patient_key(candidate, aliases)))
        if image:
            left_out.append(Skipped(candidate.path, SAME_FILE, image))
            continue
        try:
            decoded = stage.decode(content)
        except (UnreadableImage, BlankImage) as problem:
            left_out.append(Skipped(candidate.path, UNREADABLE, str(problem)))
            continue
        images.append((candidate, decoded))
        if candidate.lung_mask and not stage.mask(decoded.digest).is_file():
            try:
                stage.stage_mask(candidate.lung_mask, decoded)
            except ValueError as problem:
                left_out.append(Skipped(candidate.lung_mask, MASK, str(problem)))
    return images, left_out


def _settle(
    present: Present,
    to: Path,
    images: Sequence[tuple[Candidate, Decoded]],
    *,
    keep_duplicates: bool,
) -> tuple[Resolution, list[Skipped]]:
    if not images:
        return Resolution(), []
    aliases = present.aliases()
    # A synthetic image shows no person: it ties no patients together and keeps no image out.
    rows = [row for row in present.rows if not row.get(SYNTHETIC_COLUMN)]
    old = [Known(row["image"], _digest(row), row["label"], row["patient"]) for row in rows]
    new = []
    for candidate, decoded in images:
        patient, name = _patient_key(candidate, aliases), str(candidate.path)
        new.append(Known(name, decoded.digest, candidate.label, patient))
    hashes: Hashes = np.concatenate(
        [
            hash_images([to / row["image"] for row in rows]),
            np.stack([decoded.hash for _, decoded in images]),
        ]
    )
    settled = resolve_duplicates(old, new, hashes, keep_duplicates=keep_duplicates)
    refused = [Skipped(images[n][0].path, *why) for n, why in settled.refused.items()]
    return settled, refused


def _patient_key(candidate: Candidate, aliases: dict[str, str]) -> str:
    # The semicolon separates keys in the column also_patient.
    key = f"{candidate.source}-{candidate.patient}".replace(";", ",")
    return aliases.get(key, key)


def _digest(row: Row) -> str:
    """The part of an image's name that identifies the bytes of its source."""
    return Path(row["image"]).stem[-DIGEST_LENGTH:]


def _move_in(to: Path, stage: Stage, candidate: Candidate, decoded: Decoded, patient: str) -> Row:
    name = f"{candidate.source}-{decoded.digest}"
    image = Path("images", candidate.source, f"{name}.jpg")
    mask = Path("lung_masks", f"{name}.png") if stage.mask(decoded.digest).is_file() else None
    (to / image).parent.mkdir(parents=True, exist_ok=True)
    stage.image(decoded.digest).replace(to / image)
    if mask:
        (to / mask).parent.mkdir(exist_ok=True)
        stage.mask(decoded.digest).replace(to / mask)
    return {
        "image": image.as_posix(),
        "lung_mask": mask.as_posix() if mask else "",
        "label": candidate.label,
        "source": candidate.source,
        "site": candidate.site,
        "patient": patient,
        "view": candidate.view or decoded.view,
        "sex": candidate.sex or decoded.sex,
        "age": candidate.age or decoded.age,
        "finding": candidate.finding,
        "license": candidate.license,
        "width": str(decoded.width),
        "height": str(decoded.height),
        "original_width": str(decoded.original_width),
        "original_height": str(decoded.original_height),
    }


def write_left_out(path: Path, left_out: Sequence[Skipped]) -> None:
    """Write each image that was not taken, and why, as a CSV."""
    lines = [("path", "reason", "detail")]
    lines += [(shown_path(one.path), one.reason, one.detail) for one in left_out]
    write_whole(path, "".join(map(csv_line, lines)))
