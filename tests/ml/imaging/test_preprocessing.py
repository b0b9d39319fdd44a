"""The one preprocessing: what training sees is what serving sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ml.classifier.augmentation import Augmentation
from ml.classifier.draws import Draws
from ml.classifier.training import to_unit
from ml.data.loading import load_images
from ml.data.manifest import ImageRecord
from ml.imaging.decode import read_image
from ml.imaging.grey_levels import even_levels
from ml.imaging.preprocessing import BlankImage, standardise
from tests.support.images import jpeg, png, synthetic_image

STILL = Augmentation(*[0.0] * 13)


def image(seed: int = 0, height: int = 300, width: int = 260) -> np.ndarray:
    return synthetic_image(np.random.default_rng(seed), height, width)


def test_training_tensor_equals_serving_array(tmp_path) -> None:
    """The training way (manifest to tensor) against the serving way (bytes to array)."""
    contents = [png(image(1)), jpeg(image(2, 700, 900)), jpeg(image(3, 1600, 1500))]
    records = []
    for number, content in enumerate(contents):
        (tmp_path / f"{number}").write_bytes(content)
        records.append(ImageRecord(tmp_path / f"{number}", "covid", "s", f"p{number}"))
    trained_on = to_unit(load_images(records, 224, title="").images, torch.device("cpu"))
    served = np.stack(
        [standardise(read_image(content, shortest=448).pixels, 224) for content in contents]
    )
    assert np.abs(trained_on[:, 0].numpy() - served.astype(np.float32) / 255).max() < 1e-5


@pytest.mark.parametrize("most", [1023, 4095, 40_000, 65_535])
def test_eight_bit_picture_in_a_deeper_file_gives_the_same_input(most: int) -> None:
    eight = image(height=200, width=180)
    deeper = read_image(png(np.rint(eight * (most / 255)).astype(np.uint16))).pixels
    # Without even levels, between 1 and 10 in 100 pixels differ. What is left are exact ties.
    assert (standardise(deeper, 320) != standardise(eight, 320)).mean() < 0.002


def test_levels_of_other_images_are_kept() -> None:
    random = np.random.default_rng(5)
    for deep in (
        random.integers(0, 4096, (100, 120)),  # more levels than 8 bits have
        random.integers(1000, 1200, (100, 120)),  # few, and evenly spaced as they are
        np.sort(random.choice(65_536, 200, replace=False))[random.integers(0, 200, (100, 120))],
    ):
        assert np.array_equal(even_levels(deep.astype(np.uint16)), deep)


def test_bit_depth_and_display_window_do_not_matter() -> None:
    eight = image()
    expected = standardise(eight, 224)
    for twin in (eight.astype(np.uint16) * 257, eight.astype(np.uint16) * 16 + 100):
        assert np.abs(standardise(twin, 224).astype(int) - expected).max() <= 1
    assert np.abs(standardise(eight // 2 + 40, 224).astype(int) - expected).mean() < 2


def test_result_uses_the_full_range_and_the_whole_image() -> None:
    wide = np.tile(np.linspace(40, 90, 500).astype(np.uint8), (300, 1))
    square = standardise(wide, 64)
    assert square.shape == (64, 64)
    assert square.dtype == np.uint8
    assert (square[:, 0] == 0).all()
    assert (square[:, -1] == 255).all()


def test_large_image_is_shrunk_without_aliasing() -> None:
    """One-pixel stripes must average to grey, not turn into false structure."""
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (2048, 1024))
    stripes[:, :1024] = np.clip(stripes[:, :1024].astype(int) + 60, 0, 255).astype(np.uint8)
    square = standardise(stripes, 224)
    assert square[:, 10:100].std() < 2
    assert square[:, 130:210].std() < 2


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_blank_image_is_refused(depth: type) -> None:
    with pytest.raises(BlankImage):
        standardise(np.full((300, 300), 77, dtype=depth), 224)


def draws(count: int, part: slice | None = None) -> Draws:
    return Draws(torch.Generator().manual_seed(5), count, part or slice(0, count))


def test_augmentation_is_repeatable_bounded_and_different_for_each_image() -> None:
    images = torch.from_numpy(np.stack([image()] * 4)).float()[:, None, :256, :256] / 255
    changed = Augmentation()(images, draws(4))
    again = Augmentation()(images, draws(4))
    assert torch.equal(changed, again)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert all((changed[0] - changed[k]).abs().mean() > 0.01 for k in (1, 2, 3))


def test_part_of_a_batch_is_changed_as_in_the_whole() -> None:
    images = torch.from_numpy(np.stack([image()] * 5)).float()[:, None, :64, :64] / 255
    whole = Augmentation(compression=0.7)(images, draws(5))
    for part in (slice(0, 2), slice(2, 5), slice(5, 5)):
        own = Augmentation(compression=0.7)(images[part], draws(5, part))
        assert torch.allclose(own, whole[part], atol=1e-6)


def test_augmentation_of_no_strength_changes_nothing() -> None:
    images = torch.from_numpy(image(height=64, width=64)).float()[None, None] / 255
    still = STILL(images, draws(1))
    assert torch.allclose(still, images.clamp_min(1e-4), atol=1e-4)


def test_some_images_are_compressed_as_jpeg_more_or_less() -> None:
    images = torch.from_numpy(np.stack([image(height=64, width=64)] * 40)).float()[:, None] / 255
    lossy = replace(STILL, compression=0.5)(images, draws(40))
    change = (lossy - images.clamp_min(1e-4)).abs().mean(dim=(1, 2, 3))
    touched = change[change > 1e-3]
    assert 10 < len(touched) < 30
    assert touched.max() > 1.5 * touched.min()
    rough, fine = (
        replace(STILL, compression=1.0, lowest_quality=quality, highest_quality=quality)
        for quality in (10, 95)
    )
    assert (rough(images, draws(40)) - images).abs().mean() > (
        3 * (fine(images, draws(40)) - images).abs().mean()
    )


@pytest.mark.parametrize("side", [900, 901, 1343, 2047])
def test_large_image_is_not_shifted(side: int) -> None:
    """An image that is no whole multiple of the shrinking factor keeps its edges in place."""
    ramp = np.tile(np.linspace(0, 255, side), (side, 1))
    expected = np.tile(np.linspace(0, 255, 224), (224, 1))
    for image_of_depth in (ramp.astype(np.uint8), (ramp * 257).astype(np.uint16)):
        for turned in (image_of_depth, image_of_depth[::-1, ::-1]):
            square = standardise(np.ascontiguousarray(turned), 224).astype(float)
            square = square if turned is image_of_depth else square[::-1, ::-1]
            middle = slice(10, -10)  # the stretch cuts a percent off each end
            scaled = np.polyval(np.polyfit(expected[0, middle], square[0, middle], 1), expected)
            assert np.abs(square - scaled)[:, middle].max() < 2
