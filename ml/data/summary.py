"""The summary of a data set: counts, near-duplicates, leaks between splits, warnings."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ml.data.manifest import DEMONSTRATION, ImageRecord, labels_of
from ml.data.near_duplicates import Hashes, ImageGroups, close_images
from ml.data.splits import Split
from ml.errors import counted
from ml.json_model import JsonModel
from ml.labels import ordered_labels

UNKNOWN = "unknown"
# Pairs that are kept to be named; images that are all alike have millions.
MOST_LEAKS = 1000
_BANDS = ((18, "0-17"), (40, "18-39"), (60, "40-59"), (80, "60-79"))
_OLDEST_BAND = "80 and over"


class DuplicateExamples(JsonModel):
    """Some near-duplicates by the names of their images.

    Attributes:
        leaks: pairs of images in two splits.
        conflicts: groups of images with different labels.
    """

    leaks: list[list[str]]
    conflicts: list[list[str]]


class DataSetSummary(JsonModel):
    """What is in a frozen data set: its `summary.json` and the column `data_version.summary`.

    Attributes:
        sha256: of the content.
        images: how many.
        by_label: label -> images.
        by_source: source -> label -> images.
        by_split: split -> label -> images.
        patients: how many.
        duplicates: images that are near-duplicates of another one.
        leaks: pairs of near-duplicates in two splits.
        conflicts: groups of near-duplicates with different labels.
        examples: some of the leaks and conflicts.
        warnings: sentences.
        synthetic: images that a generator made.
        demonstration: images of the demonstration set, which stand in for patients.
    """

    sha256: str
    images: int
    by_label: dict[str, int]
    by_source: dict[str, dict[str, int]]
    by_split: dict[str, dict[str, int]]
    patients: int
    duplicates: int
    leaks: int
    conflicts: int
    examples: DuplicateExamples
    warnings: list[str]
    synthetic: int
    demonstration: int


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Near-duplicates among the images of a data set.

    Attributes:
        groups: images that are near-duplicates of each other, two or more in each.
        leaks: pairs of near-duplicates on two sides of the split, the first `MOST_LEAKS` of them.
        leak_count: how many such pairs there are.
    """

    groups: list[list[ImageRecord]]
    leaks: list[tuple[ImageRecord, ImageRecord]]
    leak_count: int

    @property
    def conflicts(self) -> list[list[ImageRecord]]:
        """Groups whose images do not all have the same label."""
        return [group for group in self.groups if len({image.label for image in group}) > 1]


def find_duplicates(records: Sequence[ImageRecord], hashes: Hashes) -> Duplicates:
    """Find near-duplicates, and those that the split parts.

    Args:
        records: N images.
        hashes: of these images, from `ml.data.near_duplicates.hash_images`.
    """
    splits = np.array([record.split for record in records])
    joined = ImageGroups(len(records))
    leaks: list[tuple[ImageRecord, ImageRecord]] = []
    leak_count = 0
    for image, copies in close_images(hashes):
        joined.join(image, copies)
        across = copies[splits[copies] != splits[image]]
        leak_count += len(across)
        named = across[: MOST_LEAKS - len(leaks)].tolist()
        leaks += [(records[image], records[copy]) for copy in named]
    return Duplicates(
        groups=[[records[member] for member in group] for group in joined.groups()],
        leaks=leaks,
        leak_count=leak_count,
    )


def count_by(
    records: Sequence[ImageRecord], feature: Callable[[ImageRecord], str]
) -> dict[str, Counter[str]]:
    """Count the labels for each value of a feature: value -> label -> images, values sorted."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        counts.setdefault(feature(record) or UNKNOWN, Counter())[record.label] += 1
    return dict(sorted(counts.items(), key=lambda item: (item[0] == UNKNOWN, item[0])))


def age_band(record: ImageRecord) -> str:
    """The band of years that a patient's age lies in; empty where it is unknown or no number."""
    try:
        age = float(record.age)
    except ValueError:
        return ""
    return next((name for end, name in _BANDS if age < end), _OLDEST_BAND)


def warnings_of(records: Sequence[ImageRecord]) -> list[str]:
    """What a data set may have although its manifest is valid, and still spoils its use."""
    labels = labels_of(records)
    warnings = []
    if len(labels) == 1:
        warnings.append(f"Every image has the label {labels[0]}. A classifier needs two or more.")
    for part in Split:
        missing = set(labels) - {record.label for record in records if record.split is part}
        if len(missing) == len(labels):
            warnings.append(f"The {part} split has no images. Add images of more patients.")
        elif missing:
            named = ", ".join(ordered_labels(missing))
            warnings.append(
                f"The {part} split has no images of {named}. Add images of more patients."
            )
    stand_ins = sum(record.source == DEMONSTRATION for record in records)
    if stand_ins:
        warnings.append(
            f"The data set has {counted(stand_ins, 'demonstration image')}, synthetic stand-ins "
            "for patients. Metrics on them say nothing about patients."
        )
    patients: dict[str, set[str]] = {}
    for record in records:
        patients.setdefault(record.source, set()).add(record.patient)
    for source, own in sorted(patients.items()):
        if len(own) == 1:
            warnings.append(
                f"All images of the source {source} are of one patient and so in one split. "
                "Check the patient keys."
            )
    return warnings
