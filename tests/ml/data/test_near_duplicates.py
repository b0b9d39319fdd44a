"""Near-duplicates: what a copy may differ in, what another image does."""

import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ml.data.manifest import ImageRecord, read_manifest
from ml.data.near_duplicates import (
    CUT_SIDES,
    HASH_BITS,
    MAX_DISTANCE,
    DisjointSets,
    Hashes,
    ImageGroups,
    close_images,
    duplicate_groups,
    hash_images,
    image_hash,
)
from ml.data.summary import MOST_LEAKS, find_duplicates
from ml.errors import DataError
from ml.imaging.decode import read_image
from ml.imaging.types import GreyImage
from tests.support.images import jpeg, png, synthetic_image


def textured_image(seed: int) -> GreyImage:
    """A synthetic image with a patient's own coarse structure, as real images have it."""
    rng = np.random.default_rng(seed)
    image = synthetic_image(rng, 256, 224).astype(np.float64)
    blobs = Image.fromarray(rng.normal(0, 25, (9, 8)).astype(np.float32))
    image += np.asarray(blobs.resize((224, 256), Image.Resampling.BICUBIC))
    greys: GreyImage = np.clip(image, 0, 255).astype(np.uint8)
    return greys


def resized(image: GreyImage) -> GreyImage:
    return np.asarray(Image.fromarray(image).resize((150, 150), Image.Resampling.LANCZOS))


def compressed(image: GreyImage) -> GreyImage:
    return np.asarray(read_image(jpeg(image, quality=40)).pixels, np.uint8)


def brighter(image: GreyImage) -> GreyImage:
    greys: GreyImage = np.clip(image * 1.1 + 8, 0, 255).astype(np.uint8)
    return greys


def deeper(image: GreyImage) -> NDArray[np.uint16]:
    return image.astype(np.uint16) * 257


def cropped(image: GreyImage) -> GreyImage:
    """Two percent of each side cut off."""
    height, width = image.shape
    rows, columns = round(0.02 * height), round(0.02 * width)
    return image[rows:-rows, columns:-columns]


def distance(one: Hashes, other: Hashes) -> int:
    """As close_images measures it, written out."""

    def bits(first: Hashes, second: Hashes) -> int:
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        return sum((a ^ b).bit_count() for a, b in pairs)

    cuts = range(len(CUT_SIDES))
    return min(min(bits(one[cut], other[0]), bits(one[0], other[cut])) for cut in cuts)


@pytest.mark.parametrize("change", [resized, compressed, brighter, deeper, cropped])
def test_copies_of_a_image_are_close(change: Callable[[GreyImage], NDArray[np.uint8]]) -> None:
    for seed in range(8):
        image = textured_image(seed)
        assert distance(image_hash(image), image_hash(change(image))) <= MAX_DISTANCE


def test_other_images_are_far() -> None:
    hashes = [image_hash(textured_image(seed)) for seed in range(12)]
    between = [distance(hashes[a], hashes[b]) for a in range(12) for b in range(a)]
    assert min(between) > 2 * MAX_DISTANCE


def test_pairs_are_those_of_the_plain_double_loop() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, (150, len(CUT_SIDES), 3), dtype=np.uint64)
    # A chain of images, each a few bits from the one before.
    for number in range(1, 150, 3):
        hashes[number] = hashes[number - 1]
        hashes[number, :, 0] ^= np.uint64(0b1011)
        hashes[number + 1, 2] = hashes[number, 0]
        hashes[number + 1, 2, 1] ^= np.uint64(2**40 - 2**32)
    expected = [
        [one, other]
        for one in range(150)
        for other in range(one + 1, 150)
        if distance(hashes[one], hashes[other]) <= MAX_DISTANCE
    ]
    assert len(expected) >= 100
    found = list(close_images(hashes))
    assert [[one, other] for one, others in found for other in others.tolist()] == expected
    assert all(len(others) for _, others in found)
    assert _plain_groups(expected) == duplicate_groups(hashes)


def _plain_groups(pairs: list[list[int]]) -> list[list[int]]:
    images = DisjointSets[int]()
    for one, other in pairs:
        images.join(one, other)
    return sorted(sorted(group) for group in images.groups())


def test_no_images_no_pairs() -> None:
    none = np.empty((0, len(CUT_SIDES), 3), np.uint64)
    assert list(close_images(none)) == []
    assert duplicate_groups(none) == []


def test_groups_join_pairs_that_share_a_image() -> None:
    images = ImageGroups(10)
    for image, copies in ((5, [9]), (0, [2]), (7, [8]), (2, [7])):
        images.join(image, np.array(copies))
    assert images.groups() == [[0, 2, 7, 8], [5, 9]]


def test_images_that_are_all_alike_take_little_memory() -> None:
    """A generator that has collapsed makes the same image thousands of times."""
    images = [ImageRecord(Path(f"{n}"), "covid", "a", f"p{n}") for n in range(5000)]
    hashes = np.zeros((5000, len(CUT_SIDES), 3), np.uint64)
    tracemalloc.start()
    try:
        found = find_duplicates(images, hashes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The pairs alone would be 200 MB as numbers, and more as objects.
    assert peak < 40e6
    assert found.groups == [images]
    sides = Counter(image.split for image in images).values()
    assert found.leak_count == (5000**2 - sum(side**2 for side in sides)) // 2
    assert len(found.leaks) == MOST_LEAKS
    assert all(one.split is not other.split for one, other in found.leaks)


def test_disjoint_sets() -> None:
    sets = DisjointSets[str]()
    sets.join("a", "b")
    sets.join("c", "d")
    assert sets.find("e") == "e"
    sets.join("d", "b")
    assert sorted(map(sorted, sets.groups())) == [["a", "b", "c", "d"], ["e"]]


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(png(textured_image(0)))
    (tmp_path / "bad.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"bad\.png: Expected PNG"):
        hash_images([tmp_path / "good.png", tmp_path / "bad.png"])


def test_five_thousand_images_are_compared_in_seconds() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, (5000, len(CUT_SIDES), 3), dtype=np.uint64)
    # Processor time, which does not depend on what else runs here.
    start = time.process_time()
    assert list(close_images(hashes)) == []
    # Twenty thousand images are sixteen times as many pairs.
    assert time.process_time() - start < 20


def test_real_images_hardly_leak(data_folder: Path) -> None:
    """The real set was cleaned with whole images: copies without their margins are left in it."""
    records = read_manifest(data_folder)
    hashes = hash_images([record.path for record in records])
    assert not find_duplicates(records, hashes[:, :1]).leaks
    assert find_duplicates(records, hashes).leak_count < 0.001 * len(records)
    bits = np.unpackbits(hashes[:, 0].astype("<u8").view(np.uint8), axis=1)[:, :HASH_BITS]
    # Every bit is informative: none but the mean grey is nearly always the same.
    assert np.all(np.abs(bits[:, 1:].mean(axis=0) - 0.5) < 0.499)
