"""A data set joins another one: its images come as they are, its patients keep their keys."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml.data.importers.append import Present, Row, aliases_of, write_manifest
from ml.data.importers.deduplicate import SAME_FILE, Known, Resolution, resolve_duplicates
from ml.data.importers.import_images import Report
from ml.data.importers.records import Skipped, files_below
from ml.data.manifest import (
    DEMONSTRATION,
    DEMONSTRATION_FOLDER,
    MANIFEST,
    SYNTHETIC_COLUMN,
    read_manifest_rows,
    record_of,
)
from ml.data.near_duplicates import Hashes, hash_records
from ml.errors import DataError, counted
from ml.files import link_or_copy
from ml.gan.synthesis.folder import (
    PRIVACY_CHECKS,
    THUMBNAILS,
    read_privacy_checks,
    thumbnail_name,
    write_privacy_checks,
)

NOT_LISTED = "in no row of the manifest"
# What else lies in a data set's folder and is no image.
_COMPANIONS = (MANIFEST, PRIVACY_CHECKS, "summary.json", "contact-sheet.jpg")


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set whose images were all looked at.

    Attributes:
        root: its folder.
        rows: of its manifest.
        digests: SHA-256 of each image's file.
        hashes: of each image, as in `ml.data.near_duplicates`.
    """

    root: Path
    rows: list[Row]
    digests: list[str]
    hashes: Hashes

    @classmethod
    def read(cls, root: Path, on_image: Callable[[], None] = lambda: None) -> "DataSet":
        """Check a manifest and its images.

        Raises:
            DataError: names every fault of the manifest, or the images that cannot be read; or
                images of people call themselves those of the demonstration.
        """
        rows = read_manifest_rows(root)[1]
        _refuse_false_stand_ins(root, rows)
        records = [record_of(root, row) for row in rows]
        digests = [_sha256(record.path) for record in records]
        return cls(root, rows, digests, hash_records(records, on_image))


def copy_whole(root: Path, to: Path, *, link: bool, on_image: Callable[[], None]) -> Report:
    """Begin a data set as the copy of another one: the same manifest, and so the same content.

    Args:
        root: the other one.
        to: the new one's folder, without a manifest.
        link: share the files, where the file system can: of a data set that nobody changes.
        on_image: called before each image; may raise to stop.

    Raises:
        DataError: names every fault of the manifest; or images of people call themselves those of
            the demonstration.
    """
    rows = read_manifest_rows(root)[1]
    _refuse_false_stand_ins(root, rows)
    for row in rows:
        on_image()
        for name in _files_of(root, row):
            _place(root / name, to / name, link=link)
    for name in (PRIVACY_CHECKS, ".patient-salt"):
        if (root / name).is_file():
            _place(root / name, to / name, link=False)
    _place(root / MANIFEST, to / MANIFEST, link=False)
    return Report(Counter(row["label"] for row in rows), len(rows), _not_listed(root, rows))


def _refuse_false_stand_ins(root: Path, rows: Sequence[Row]) -> None:
    """The source marks images as synthetic, so only the released ones may have it."""
    named = [row["image"] for row in rows if row["source"] == DEMONSTRATION]
    if not named:
        return
    shipped = {
        _sha256(DEMONSTRATION_FOLDER / row["image"])
        for row in read_manifest_rows(DEMONSTRATION_FOLDER)[1]
    }
    false = [image for image in named if _sha256(root / image) not in shipped]
    if false:
        raise DataError(
            f"The source {DEMONSTRATION!r} is reserved for the demonstration set, but it is "
            f"the source of {counted(len(false), 'other image')} of {root}, such as {false[0]}. "
            "Rename that source."
        )


def add_data_set(
    added: DataSet, to: Path, *, keep_duplicates: bool, on_image: Callable[[], None]
) -> Report:
    """Take the images of a data set into another one, as they are.

    Of images that are there already, from the same source, the row that is added counts: that is
    how a corrected label takes the place of the one before. For others, near-duplicates are
    settled as in an import.

    Args:
        added: the images.
        to: the folder of the data set they come into; its manifest changes at the very end.
        keep_duplicates: as in `ml.data.importers.import_images.import_images`.
        on_image: called before each image; may raise to stop.

    Raises:
        DataError: the data set they come into has faults.
    """
    present = Present.read(to)
    aliases = present.aliases()
    rows = [row | {"patient": aliases.get(row["patient"], row["patient"])} for row in added.rows]
    digests = [_sha256(to / row["image"]) for row in present.rows]
    known = {
        (row["source"], digest): number
        for number, (row, digest) in enumerate(zip(present.rows, digests, strict=True))
    }
    kept = list(present.rows)
    left_out = _not_listed(added.root, added.rows)
    changed, new = 0, []
    for number, (row, digest) in enumerate(zip(rows, added.digests, strict=True)):
        place = known.get((row["source"], digest))
        if place is None:
            new.append(number)
        elif _says_the_same(kept[place], row):
            left_out.append(Skipped(added.root / row["image"], SAME_FILE, kept[place]["image"]))
        else:
            files = {name: kept[place].get(name, "") for name in ("image", "lung_mask")}
            kept[place] = kept[place] | row | files
            changed += 1

    settled = _settle(to, kept, digests, added, rows, new, keep_duplicates=keep_duplicates)
    left_out += [
        Skipped(added.root / rows[new[n]]["image"], *why) for n, why in settled.refused.items()
    ]
    used = {*_COMPANIONS} | {row.get(name, "") for row in kept for name in ("image", "lung_mask")}
    taken = []
    for n, patient in sorted(settled.taken.items()):
        on_image()
        taken.append(_move_in(added, new[n], to, rows[new[n]] | {"patient": patient}, used))
    _add_privacy_checks(added, to, taken)
    if taken or changed or settled.aliases:
        all_rows = [*kept, *(row for _, row in taken)]
        write_manifest(to, present, all_rows, settled.aliases | aliases_of([r for _, r in taken]))
    counts = Counter(row["label"] for _, row in taken)
    return Report(counts, len(kept) + len(taken), left_out, changed)


def _says_the_same(one: Row, other: Row) -> bool:
    return all(one.get(name, "") == other.get(name, "") for name in ("label", "patient"))


def _settle(
    to: Path,
    kept: Sequence[Row],
    digests: Sequence[str],
    added: DataSet,
    rows: Sequence[Row],
    new: Sequence[int],
    *,
    keep_duplicates: bool,
) -> Resolution:
    """Which of the new images come in; numbers are places in `new`."""
    settled = Resolution()
    # A synthetic image shows no person: it ties no patients together and keeps no image out.
    real = []
    for n, number in enumerate(new):
        if rows[number].get(SYNTHETIC_COLUMN):
            settled.taken[n] = rows[number]["patient"]
        else:
            real.append(n)
    if not real:
        return settled
    old = [
        (row, digest)
        for row, digest in zip(kept, digests, strict=True)
        if not row.get(SYNTHETIC_COLUMN)
    ]
    chosen = [new[n] for n in real]
    found = resolve_duplicates(
        [_known(row, digest) for row, digest in old],
        [_known(rows[number], added.digests[number]) for number in chosen],
        np.concatenate(
            [hash_records([record_of(to, row) for row, _ in old]), added.hashes[chosen]]
        ),
        keep_duplicates=keep_duplicates,
    )
    settled.taken.update({real[n]: patient for n, patient in found.taken.items()})
    settled.refused.update({real[n]: why for n, why in found.refused.items()})
    settled.aliases.update(found.aliases)
    return settled


def _known(row: Row, digest: str) -> Known:
    return Known(row["image"], digest, row["label"], row["patient"])


def _move_in(added: DataSet, number: int, to: Path, row: Row, used: set[str]) -> tuple[str, Row]:
    """Copy an image and what belongs to it; its image's name before, and its row now."""
    before = row["image"]
    row = row | {"image": _free_name(used, "images", before, added.digests[number])}
    _place(added.root / before, to / row["image"], link=False)
    if mask := row.get("lung_mask"):
        row["lung_mask"] = _free_name(used, "lung_masks", mask, added.digests[number])
        _place(added.root / mask, to / row["lung_mask"], link=False)
    small = added.root / thumbnail_name(before)
    if small.is_file():
        _place(small, to / thumbnail_name(row["image"]), link=False)
    return before, row


def _free_name(used: set[str], folder: str, name: str, digest: str) -> str:
    """A file's own name, or where another one has it, one made of the image's content."""
    if name in used:
        name = f"{folder}/added/{digest}{Path(name).suffix}"
    used.add(name)
    return name


def _add_privacy_checks(added: DataSet, to: Path, taken: Sequence[tuple[str, Row]]) -> None:
    own = read_privacy_checks(added.root / PRIVACY_CHECKS)
    new = {
        row["image"]: own[before] | {"file": row["image"]} for before, row in taken if before in own
    }
    if new:
        write_privacy_checks(to / PRIVACY_CHECKS, read_privacy_checks(to / PRIVACY_CHECKS) | new)


def _files_of(root: Path, row: Row) -> list[str]:
    """The image, its mask and its thumbnail, as far as there are such."""
    names = [row["image"]]
    if row.get("lung_mask"):
        names.append(row["lung_mask"])
    if (root / thumbnail_name(row["image"])).is_file():
        names.append(thumbnail_name(row["image"]))
    return names


def _not_listed(root: Path, rows: Sequence[Row]) -> list[Skipped]:
    """Files of the folder that are no part of the data set."""
    listed = {
        (root / name).resolve()
        for row in rows
        for name in (row["image"], row.get("lung_mask"))
        if name
    } | {(root / name).resolve() for name in _COMPANIONS}
    return [
        Skipped(path, NOT_LISTED)
        for path in files_below(root)
        if path.resolve() not in listed
        and path.relative_to(root).parts[0] != THUMBNAILS
        and not path.name.startswith("left-out-")
    ]


def _place(source: Path, target: Path, *, link: bool) -> None:
    """Put a file in its place, where an earlier attempt may have put it already."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    partial.unlink(missing_ok=True)
    # Whatever a link in the other data set points to, here it is a file.
    source = source.resolve()
    if link:
        link_or_copy(source, partial)
    else:
        shutil.copyfile(source, partial)
        if source.name.startswith(".patient-salt"):
            partial.chmod(0o600)
    partial.replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
