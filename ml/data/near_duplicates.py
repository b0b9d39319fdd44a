"""Near-duplicates: perceptual hashes of images, the pairs that are close, their groups.

Public sets copy from each other, resized, compressed again, a margin cut off. Two such copies
on two sides of the split would let a model be tested on what it has memorised.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.data.manifest import ImageRecord, listed
from ml.errors import DataError, counted
from ml.imaging.decode import read_image
from ml.imaging.types import MIN_SIDE, Pixels, UnreadableImage
from ml.progress import tracked

# 144 signs of a cosine transform; copies differ in few of them, other images in about half.
HASH_BITS = 144
MAX_DISTANCE = 12
# A copy often lacks a margin, which shifts the finer waves. So an image is hashed whole and without
# these shares of each side, and the closest of an image's hashes to another's whole one counts.
CUT_SIDES = (0.0, 0.01, 0.02)
WORDS = 3
Hashes = NDArray[np.uint64]  # (N, len(CUT_SIDES), WORDS); one image's without the N
_FREQUENCIES = 12
_SAMPLES = 48
# Rows compared at once: the intermediate array stays near 20 MB for 20,000 images.
_BLOCK = 128
Key = TypeVar("Key", bound=Hashable)


def image_hash(pixels: Pixels) -> Hashes:
    """Hash an image by its coarse structure: (H, W) -> (len(CUT_SIDES), WORDS).

    The signs of the cosine transform's lowest 12 x 12 frequencies around their median, so
    brightness and contrast change nearly none of them.
    """
    image = Image.fromarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32))
    whole = image.convert("F")
    return np.stack([_signs(whole, cut) for cut in CUT_SIDES])


def _signs(image: Image.Image, cut: float) -> Hashes:
    """Hash an image without a share of each side, (WORDS,)."""
    width, height = image.size
    box = (cut * width, cut * height, (1 - cut) * width, (1 - cut) * height)
    small = image.resize((_SAMPLES, _SAMPLES), Image.Resampling.BOX, box=box)
    # (_FREQUENCIES, _SAMPLES): cosines of 0 to 11 half periods over the samples.
    waves = np.cos(np.pi / _SAMPLES * np.outer(np.arange(_FREQUENCIES), np.arange(_SAMPLES) + 0.5))
    spectrum = (waves @ np.asarray(small, dtype=np.float64) @ waves.T).ravel()
    packed = np.zeros(8 * WORDS, np.uint8)
    # The first is the mean grey, far above all others.
    packed[: HASH_BITS // 8] = np.packbits(spectrum > np.median(spectrum[1:]))
    return packed.view("<u8").astype(np.uint64)


def file_hash(content: bytes, least_side: int = MIN_SIDE) -> Hashes:
    """Hash an image from the bytes of its file, (len(CUT_SIDES), WORDS).

    Raises:
        UnreadableImage: no image, or one whose short side has fewer pixels than it must.
    """
    return image_hash(read_image(content, shortest=2 * _SAMPLES, least_side=least_side).pixels)


def hash_images(paths: Sequence[Path]) -> Hashes:
    """Hash images of people from their files, (N, len(CUT_SIDES), WORDS).

    Raises:
        DataError: names the images that cannot be read.
    """
    return _hash_files([(path, MIN_SIDE) for path in paths])


def hash_records(
    records: Sequence[ImageRecord], on_image: Callable[[], None] = lambda: None
) -> Hashes:
    """Hash the images of a data set, (N, len(CUT_SIDES), WORDS); synthetic ones may be smaller.

    Args:
        records: N images.
        on_image: called after each of them.

    Raises:
        DataError: names the images that cannot be read.
    """
    return _hash_files([(record.path, record.least_side) for record in records], on_image)


def _hash_files(
    images: Sequence[tuple[Path, int]], on_image: Callable[[], None] = lambda: None
) -> Hashes:
    hashes = np.zeros((len(images), len(CUT_SIDES), WORDS), np.uint64)
    faults = []
    for index, (path, least_side) in enumerate(tracked(images, "comparing images")):
        try:
            hashes[index] = file_hash(path.read_bytes(), least_side)
        except (UnreadableImage, OSError) as problem:
            faults.append(f"{path}: {problem}")
        on_image()
    if faults:
        raise DataError(f"{counted(len(faults), 'image')} cannot be read:{listed(faults)}")
    return hashes


def close_images(
    hashes: Hashes, max_distance: int = MAX_DISTANCE
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Go through the pairs of images that differ in few bits, image by image.

    Where all images are alike there are N^2 / 2 pairs: they are never held at once.

    Args:
        hashes: (N, len(CUT_SIDES), WORDS).
        max_distance: most bits that may differ between one image and the other's closest cut.

    Yields:
        The number of an image and, ascending, those of the images after it that are close to it;
        only
        of images that have such.
    """
    for start in range(0, len(hashes), _BLOCK):
        rows, others = hashes[start : start + _BLOCK], hashes[start:]
        close = np.zeros((len(rows), len(others)), np.bool_)
        for cut in range(hashes.shape[1]):
            # Either of the two may be the one that lacks a margin.
            for row_cut, other_cut in dict.fromkeys(((cut, 0), (0, cut))):
                distance = _distances(rows[:, row_cut].T, others[:, other_cut].T)
                close |= distance <= max_distance
        close = np.triu(close, 1)
        for row in np.flatnonzero(close.any(axis=1)):
            yield start + int(row), start + np.flatnonzero(close[row])


def close_to(
    hashes: Hashes, references: Hashes, max_distance: int = MAX_DISTANCE
) -> NDArray[np.bool_]:
    """Which images are near-duplicates of a reference image.

    Args:
        hashes: (M, len(CUT_SIDES), WORDS).
        references: (N, len(CUT_SIDES), WORDS).
        max_distance: as in `close_images`.

    Returns:
        (M,).
    """
    close = np.zeros(len(hashes), np.bool_)
    for start in range(0, len(hashes), _BLOCK):
        rows = slice(start, start + _BLOCK)
        for cut in range(hashes.shape[1]):
            # Either of the two may be the one that lacks a margin.
            for cut_image, cut_reference in ((cut, 0), (0, cut)):
                distance = _distances(hashes[rows, cut_image].T, references[:, cut_reference].T)
                close[rows] |= (distance <= max_distance).any(axis=1)
    return close


def _distances(rows: Hashes, columns: Hashes) -> NDArray[np.uint8]:
    """Differing bits of every row with every column, (WORDS, M), (WORDS, N) -> (M, N)."""
    distance = np.zeros((rows.shape[1], columns.shape[1]), np.uint8)
    for row, column in zip(rows, columns, strict=True):
        distance += np.bitwise_count(row[:, None] ^ column[None, :])
    return distance


class ImageGroups:
    """Groups of images that are near-duplicates, directly or by way of others.

    For numbers what `DisjointSets` is for names, since an image may have thousands of copies.
    """

    def __init__(self, images: int) -> None:
        # (N,): the first image of each one's group.
        self._first = np.arange(images)

    def join(self, image: int, copies: NDArray[np.intp]) -> None:
        """Put an image, its copies and all that are joined to them into one group."""
        groups = np.unique(np.append(self._first[copies], self._first[image]))
        if len(groups) > 1:
            self._first[np.isin(self._first, groups)] = groups[0]

    def groups(self) -> list[list[int]]:
        """The groups of two images and more, by their first image, ascending in each."""
        members: dict[int, list[int]] = {}
        for image, first in enumerate(self._first.tolist()):
            members.setdefault(first, []).append(image)
        return [group for group in members.values() if len(group) > 1]


def duplicate_groups(hashes: Hashes) -> list[list[int]]:
    """Find near-duplicates, (N, len(CUT_SIDES), WORDS) -> groups as `ImageGroups` gives them."""
    found = ImageGroups(len(hashes))
    for image, copies in close_images(hashes):
        found.join(image, copies)
    return found.groups()


class DisjointSets(Generic[Key]):
    """Union-find: items joined directly or by way of others are in one group."""

    def __init__(self) -> None:
        self._parents: dict[Key, Key] = {}

    def find(self, item: Key) -> Key:
        """The group's representative; an unknown item becomes a new group."""
        root = item
        while (parent := self._parents.setdefault(root, root)) != root:
            root = parent
        while item != root:
            self._parents[item], item = root, self._parents[item]
        return root

    def join(self, first: Key, second: Key) -> None:
        """Put two items and all that are joined to them into one group."""
        self._parents[self.find(second)] = self.find(first)

    def groups(self) -> list[list[Key]]:
        """All groups, the items of each in the order in which they were first seen."""
        members: dict[Key, list[Key]] = {}
        for item in list(self._parents):
            members.setdefault(self.find(item), []).append(item)
        return list(members.values())
