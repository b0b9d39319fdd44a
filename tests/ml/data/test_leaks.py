"""Images that give way to their copies among the images that measure."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.data.leaks import without_leaks
from ml.data.manifest import ImageRecord, read_manifest
from ml.data.near_duplicates import hash_images
from ml.data.splits import Split, split_of
from ml.data.summary import find_duplicates

PATIENTS = {
    part: next(f"p{number}" for number in range(99) if split_of(f"p{number}") is part)
    for part in Split
}


@pytest.fixture
def image(tmp_path: Path) -> ImageRecord:
    grey = np.random.default_rng(3).integers(0, 256, (12, 12), np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(grey).resize((128, 128), Image.Resampling.BICUBIC).save(path)
    return ImageRecord(path, "covid", "a", PATIENTS[Split.TRAIN])


@pytest.mark.parametrize(
    ("one", "other", "left"),
    [
        (Split.TRAIN, Split.TEST, Split.TEST),
        (Split.VALIDATION, Split.TRAIN, Split.VALIDATION),
        (Split.TEST, Split.VALIDATION, Split.TEST),
    ],
)
def test_a_copy_gives_way_to_the_image_that_measures(
    image: ImageRecord, one: Split, other: Split, left: Split
) -> None:
    images = [replace(image, patient=PATIENTS[part]) for part in (one, other)]
    assert [kept.split for kept in without_leaks(images)] == [left]


def test_copies_in_one_split_stay(image: ImageRecord) -> None:
    images = [image, replace(image, source="b")]
    assert without_leaks(images) == images


def test_every_image_gives_way_to_a_source_that_is_left_out(image: ImageRecord) -> None:
    images = [replace(image, patient=PATIENTS[Split.TEST]), replace(image, source="b")]
    assert without_leaks(images, left_out="b") == images[1:]


def test_images_that_are_all_alike_give_way_to_those_of_the_test(
    image: ImageRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [replace(image, patient=f"p{number}") for number in range(300)]
    monkeypatch.setattr(
        "ml.data.leaks.hash_records", lambda all_: np.zeros((len(all_), 3, 3), np.uint64)
    )
    assert without_leaks(images) == [image for image in images if image.split is Split.TEST]


def test_real_images_that_are_left_do_not_leak(data_folder: Path) -> None:
    records = read_manifest(data_folder)
    left = without_leaks(records)
    assert not find_duplicates(left, hash_images([image.path for image in left])).leaks
    assert [image for image in records if image.split is Split.TEST] == [
        image for image in left if image.split is Split.TEST
    ]
