"""Images of a data set, standardised and held in memory as grey levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.data.manifest import ImageRecord, labels_of, listed
from ml.errors import DataError, counted
from ml.imaging.decode import read_image
from ml.imaging.preprocessing import BlankImage, standardise
from ml.imaging.types import UnreadableImage
from ml.progress import tracked


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Standardised images in memory with what is known of each.

    Attributes:
        records: the images' rows in the manifest.
        images: their grey levels.
        labels: the numbers of their classes in the list that they were loaded for.
    """

    records: list[ImageRecord]
    images: NDArray[np.uint8]  # (N, S, S)
    labels: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def patients(self) -> NDArray[np.str_]:
        """(N,) patient keys."""
        return np.array([record.patient for record in self.records])

    def shows(self, label: str) -> NDArray[np.bool_]:
        """(N,) whether the images are of a class."""
        return np.array([record.label == label for record in self.records], dtype=np.bool_)

    def numbers_in(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """(N,) places of the images' labels in a list of classes.

        Raises:
            DataError: an image is of no class in the list.
        """
        require_known(self.records, labels)
        return np.array([labels.index(record.label) for record in self.records], dtype=np.int64)

    @property
    def sources(self) -> NDArray[np.str_]:
        """(N,) names of the images' sources."""
        return np.array([record.source for record in self.records])


@dataclass(frozen=True, slots=True)
class ImageSplits:
    """The three parts of a data set, loaded."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def load_images(
    records: Sequence[ImageRecord],
    size: int,
    *,
    title: str,
    classes: Sequence[str] | None = None,
    quiet: bool = False,
    enlarge: bool = True,
) -> ImageSet:
    """Decode and standardise images into memory.

    Args:
        records: the images.
        size: side that they are brought to, in pixels.
        title: what the progress bar says.
        classes: all classes that there are, in the order of their numbers; by default those of the
            images.
        quiet: shows no bar.
        enlarge: also images with a side below `size`; else they are left out.

    Raises:
        DataError: names the images that cannot be read, or the classes that are not among
            `classes`.
    """
    classes = labels_of(records) if classes is None else classes
    require_known(records, classes)
    images = np.empty((len(records), size, size), dtype=np.uint8)
    kept: list[ImageRecord] = []
    faults = []
    for record in tracked(records, title, hidden=quiet):
        try:
            content = record.path.read_bytes()
            pixels = read_image(content, shortest=2 * size, least_side=record.least_side).pixels
            if enlarge or min(pixels.shape) >= size:
                images[len(kept)] = standardise(pixels, size)
                kept.append(record)
        except (UnreadableImage, BlankImage) as problem:
            faults.append(f"{record.path}: {problem}")
    if faults:
        raise DataError(f"{counted(len(faults), 'image')} cannot be read:{listed(faults)}")
    labels = np.array([classes.index(record.label) for record in kept], dtype=np.int64)
    return ImageSet(kept, images[: len(kept)], labels)


def require_known(records: Sequence[ImageRecord], classes: Sequence[str]) -> None:
    """Check that images are of these classes.

    Raises:
        DataError: names the other classes.
    """
    unknown = [record for record in records if record.label not in classes]
    if unknown:
        raise DataError(
            f"The data set has {counted(len(unknown), 'image')} of "
            f"{', '.join(labels_of(unknown))}. Use a data set with the classes "
            f"{', '.join(classes)} only."
        )
