"""The crop to the lungs, alone and within an exported classifier."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.classifier.export import export_run
from ml.classifier.lung_crop import WHOLE_SIDE, LungCrop, crop_images, place_on_whole
from ml.classifier.predictor import Predictor
from ml.classifier.trained_run import load_run
from ml.classifier.training import train_classifier
from ml.data.loading import load_images
from ml.data.manifest import DEMONSTRATION_FOLDER, read_manifest
from ml.data.splits import Split
from ml.options.classifier import ClassifierOptions
from tests.support.classifier_world import tiny_network_of, write_data
from tests.support.images import synthetic_image

SIDE = 64


@pytest.fixture(scope="module")
def crop() -> LungCrop:
    return LungCrop.load(SIDE)


@pytest.fixture(scope="module", autouse=True)
def tiny_network() -> Iterator[None]:
    with tiny_network_of(SIDE):
        yield


def demonstration_images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:

    records = read_manifest(DEMONSTRATION_FOLDER)[:count]
    return load_images(records, WHOLE_SIDE, title="", quiet=True).images


def in_a_border(images: np.ndarray, width: int) -> np.ndarray:  # type: ignore[type-arg]
    """The images shrunk into a black frame with a burnt-in letter."""
    small = torch.nn.functional.interpolate(
        torch.from_numpy(images)[:, None].float(),
        (WHOLE_SIDE - 2 * width,) * 2,
        mode="bilinear",
        antialias=True,
    )
    framed = np.zeros_like(images)
    framed[:, width:-width, width:-width] = small[:, 0].round().byte().numpy()
    framed[:, 8:24, 8:24] = 255
    return framed


def test_a_frame_and_a_letter_outside_the_lungs_hardly_change_the_crop(crop: LungCrop) -> None:
    images = demonstration_images(8)
    plain, framed = crop_images(images, crop), crop_images(in_a_border(images, 40), crop)
    assert plain.shape == (8, SIDE, SIDE)
    similar = [
        np.corrcoef(one.ravel(), other.ravel())[0, 1]
        for one, other in zip(plain, framed, strict=True)
    ]
    uncropped = [
        np.corrcoef(one.ravel(), other.ravel())[0, 1]
        for one, other in zip(images, in_a_border(images, 40), strict=True)
    ]
    assert np.median(similar) > 0.85
    assert np.median(similar) > np.median(uncropped) + 0.2


def test_an_image_without_lungs_is_kept_whole(crop: LungCrop) -> None:
    images = torch.full((2, 1, WHOLE_SIDE, WHOLE_SIDE), 128.0)
    images[1, :, 100:200, 100:200] = 255
    boxes = crop.boxes(images)
    assert boxes.tolist() == [[0, 0, 1, 1]] * 2


def test_a_map_is_placed_where_its_box_lies() -> None:
    boxes = torch.tensor([[0.5, 0.0, 1.0, 0.5]])
    placed = place_on_whole(torch.ones(1, 1, 7, 7), boxes, side=8)[0, 0]
    assert placed[1:3, 5:7].tolist() == [[1, 1], [1, 1]]
    assert placed[:, :4].abs().max() == 0
    assert placed[4:].abs().max() == 0


def test_exported_graph_crops_whole_images_itself(tmp_path: Path) -> None:
    records = read_manifest(
        write_data(tmp_path / "data", {Split.TRAIN: 12, Split.VALIDATION: 6, Split.TEST: 6})
    )
    options = ClassifierOptions(
        network="report-cnn", epochs=1, small_epochs=0, batch_size=16, crop="lungs"
    )
    train_classifier(records, tmp_path / "run", options, device=torch.device("cpu"))
    # Export itself compares the graph with torch on whole images.
    card = export_run(records, load_run(tmp_path / "run"), tmp_path / "bundle", version="1")
    assert card.input_size == WHOLE_SIDE
    assert "cropped to the box" in card.preprocessing
    image = synthetic_image(np.random.default_rng(1), WHOLE_SIDE, WHOLE_SIDE)
    found = Predictor.load(tmp_path / "bundle").predict(image)
    assert found.activation_map.shape == (3, 14, 14)
    assert sum(found.probabilities.values()) == pytest.approx(1)
