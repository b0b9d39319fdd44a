"""Images with lung masks: those of a data set's manifest that name one in `lung_mask`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.data.loading import load_images
from ml.data.manifest import ImageRecord, read_manifest_rows, record_of
from ml.data.splits import Split
from ml.errors import DataError, counted
from ml.progress import tracked

_MASK_COLUMN = "lung_mask"


@dataclass(frozen=True, slots=True)
class MaskedImages:
    """Images and the masks that people drew of their lungs.

    Attributes:
        records: the images' rows in the manifest.
        images: (N, S, S) standardised grey levels.
        masks: N masks, each (H, W) at the size of its image file.
    """

    records: list[ImageRecord]
    images: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def patients(self) -> NDArray[np.str_]:
        """(N,) patient keys."""
        return np.array([record.patient for record in self.records])

    def small_masks(self, side: int) -> NDArray[np.float32]:
        """(N, side, side) share of lung in each pixel of a smaller grid."""
        return np.stack([_shrink_mask(mask, side) for mask in self.masks])


def load_masked_images(root: Path, size: int) -> tuple[MaskedImages, MaskedImages]:
    """Read the images of a data set that have a mask, split by patient.

    Args:
        root: the data set's folder.
        size: side of the images, in pixels.

    Returns:
        Those that train, and the held-out ones: the patients of the validation and test splits.

    Raises:
        DataError: the manifest is faulty, an image or mask cannot be read, or a side has no image.
    """
    found = [
        (record_of(root, row), root / row[_MASK_COLUMN])
        for row in read_manifest_rows(root)[1]
        if row.get(_MASK_COLUMN)
    ]
    parts = [
        [(record, mask) for record, mask in found if (record.split is Split.TRAIN) is training]
        for training in (True, False)
    ]
    if not all(parts):
        raise DataError(
            f"{root} has {counted(len(parts[0]), 'image')} with a lung mask to train on and "
            f"{len(parts[1])} held out. Add masks of several patients in the column {_MASK_COLUMN}."
        )
    training, held_out = (_load(part, size) for part in parts)
    return training, held_out


def _load(part: Sequence[tuple[ImageRecord, Path]], size: int) -> MaskedImages:
    loaded = load_images([record for record, _ in part], size, title="reading images with masks")
    masks = [_read_mask(path) for _, path in tracked(part, "reading masks")]
    return MaskedImages(loaded.records, loaded.images, masks)


def _read_mask(path: Path) -> NDArray[np.bool_]:
    try:
        with Image.open(path) as opened:
            mask: NDArray[np.bool_] = np.asarray(opened.convert("L")) > 0
    except OSError as problem:
        raise DataError(f"{path} is not an image: {problem}. Replace the lung mask.") from problem
    return mask


def _shrink_mask(mask: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    small = grey.resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)
