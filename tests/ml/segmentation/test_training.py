"""The lung segmentation network on generated images whose lungs are known."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ml.commands.main import app
from ml.data.splits import Split, split_of
from ml.errors import DataError
from ml.imaging.lungs import LungSegmenter
from ml.options.lungs import LungOptions
from ml.segmentation.data import load_masked_images
from ml.segmentation.export import mean_dice
from ml.segmentation.training import augment, segmentation_loss, train_lungs
from tests.support.classifier_world import patient_in
from tests.support.gan_world import one_thread
from tests.support.images import png, synthetic_image

__all__ = ["one_thread"]  # a fixture that all tests here use
HEIGHT, WIDTH = 96, 80
PARTS = (*[Split.TRAIN] * 6, Split.VALIDATION, Split.TEST)


def write_data(root: Path, parts: tuple[Split, ...] = PARTS) -> Path:
    """A data set of one image with a mask for each entry, and one image without."""
    root.mkdir()
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    sides = (((x - c) / 0.3) ** 2 + ((y + 0.05) / 0.65) ** 2 for c in (-0.42, 0.42))
    (root / "mask.png").write_bytes(png((np.minimum(*sides) < 1).astype(np.uint8) * 255))
    with (root / "manifest.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("image", "lung_mask", "label", "source", "patient"))
        for number, part in enumerate((*parts, Split.TRAIN)):
            pixels = synthetic_image(np.random.default_rng(number), HEIGHT, WIDTH)
            (root / f"{number}.png").write_bytes(png(pixels))
            mask = "mask.png" if number < len(parts) else ""
            writer.writerow((f"{number}.png", mask, "normal", "north", patient_in(part, number)))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("lungs") / "set")


def test_images_with_masks_are_split_by_patient(data: Path) -> None:
    training, held_out = load_masked_images(data, 32)
    assert (len(training), len(held_out)) == (6, 2)
    assert not set(training.patients) & set(held_out.patients)
    assert {split_of(patient) for patient in held_out.patients} == {Split.VALIDATION, Split.TEST}
    assert held_out.masks[0].shape == (HEIGHT, WIDTH)
    small = training.small_masks(16)
    assert small.shape == (6, 16, 16)
    assert small.mean() == pytest.approx(held_out.masks[0].mean(), abs=0.01)


def test_data_without_held_out_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 images with a lung mask to train on and 0 held out"):
        load_masked_images(write_data(tmp_path / "set", (Split.TRAIN, Split.TRAIN)), 32)


def test_damaged_mask_is_named(tmp_path: Path) -> None:
    root = write_data(tmp_path / "set")
    (root / "mask.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"mask\.png is not an image"):
        load_masked_images(root, 32)


def test_loss_is_least_where_the_masks_agree() -> None:
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, :4] = 1
    logits = 20 * (masks[:, :, ::2, ::2] - 0.5)
    assert segmentation_loss(logits, masks) < 1e-3
    assert segmentation_loss(-logits, masks) > 2
    empty = torch.zeros(1, 1, 8, 8)
    assert segmentation_loss(torch.full((1, 1, 4, 4), -20.0), empty) < 1e-3


def test_masks_move_with_their_images() -> None:
    square = torch.zeros(4, 1, 32, 32)
    square[:, :, 8:24, 4:16] = 1
    images, masks = augment(square, square.clone(), np.random.default_rng(0))
    inside, outside = masks > 0.99, masks < 0.01
    for image, within, without in zip(images, inside, outside, strict=True):
        assert image[within].mean() > image[without].mean() + 0.2
    assert images.min() >= 0
    assert images.max() <= 1
    # Each image is changed differently.
    assert not torch.equal(masks[0], masks[1])


def test_training_is_the_same_again(data: Path) -> None:
    training, _ = load_masked_images(data, 32)
    options = LungOptions(epochs=1, batch_size=3)
    one, other = (
        train_lungs(training.images, training.small_masks(32), options).state_dict()
        for _ in range(2)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_dice_interval_is_over_patients() -> None:
    scores = np.array([0.9, 0.9, 0.5])
    found = mean_dice(scores, np.array(["a", "a", "b"]))
    assert found.value == pytest.approx(scores.mean())
    assert (found.low, found.high, found.n) == (0.5, 0.9, 3)


def test_command_trains_exports_and_measures(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ("--data", data, "--out", out, "--epochs", 10, "--batch-size", 3)
    done = CliRunner().invoke(app, ["train", "lungs", *map(str, given)])
    assert done.exit_code == 0, done.output
    assert "on 2 images of 2 held-out patients" in done.stdout
    assert done.stdout.count("epoch") == 10
    segmenter = LungSegmenter.load(out)
    card = segmenter.card
    assert card.images == {"training": 6, "held_out": 2}
    assert card.by_source["training"] == {"north": 6}
    assert card.options == LungOptions(epochs=10, batch_size=3)
    assert card.dice.value > 0.5
    assert segmenter.find(synthetic_image(np.random.default_rng(9), HEIGHT, WIDTH)).plausible
