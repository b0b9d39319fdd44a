"""The images that an import left out, as its page shows them."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.runs.handlers.import_data import LEFT_OUT_REVIEWED

# Of `ml.data.importers.prepare`, which reaches torch.
LEFT_OUT = "left-out.csv"
# The whole list is among the files of the run.
MOST_SHOWN = 50
# Rows that are counted: a list of millions would keep a page waiting.
_MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image that was left out, and why."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import left out.

    Attributes:
        reasons: how many images by reason, the most frequent first.
        images: the first ones.
        total: how many there are.
    """

    reasons: list[tuple[str, int]]
    images: list[SkippedImage]
    total: int


def import_report(folder: Path) -> ImportReport | None:
    """What an import left out; None where it has written no list.

    Args:
        folder: of the run.
    """
    lists = [name for name in (LEFT_OUT, LEFT_OUT_REVIEWED) if (folder / name).is_file()]
    if not lists:
        return None
    counts: Counter[str] = Counter()
    shown: list[SkippedImage] = []
    for name in lists:
        for image in _rows(folder / name):
            counts[image.reason] += 1
            if len(shown) < MOST_SHOWN:
                shown.append(image)
            if counts.total() >= _MOST_COUNTED:
                break
    return ImportReport(
        reasons=counts.most_common(),
        images=shown,
        total=counts.total(),
    )


def _rows(path: Path) -> Iterator[SkippedImage]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            image, reason, detail = (row.get(name) or "" for name in ("path", "reason", "detail"))
            yield SkippedImage(image, reason, detail)
