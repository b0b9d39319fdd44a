"""Lungs in generated images, and the box around them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ml.errors import BundleError
from ml.imaging.lungs import (
    GRAPH,
    PRETRAINED_LUNGS,
    WHOLE_IMAGE,
    Box,
    Lungs,
    LungSegmenter,
    largest_parts,
)
from ml.network_files import CARD
from tests.support.images import synthetic_image


@pytest.fixture(scope="module")
def segmenter() -> LungSegmenter:
    return LungSegmenter.load()


def mask_with(*boxes: tuple[int, int, int, int], side: int = 20) -> NDArray[np.bool_]:
    """A mask with rectangles from (top, left) up to (bottom, right)."""
    mask = np.zeros((side, side), np.bool_)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


LEFT, RIGHT, SPECK = (4, 2, 16, 8), (4, 12, 14, 18), (0, 19, 1, 20)


def test_two_largest_parts_stay() -> None:
    found = largest_parts(mask_with(LEFT, RIGHT, SPECK), 2)
    assert (found == mask_with(LEFT, RIGHT)).all()


def test_parts_that_touch_at_a_corner_are_two() -> None:
    corner = mask_with((0, 0, 4, 4), (4, 4, 6, 6))
    assert (largest_parts(corner, 1) == mask_with((0, 0, 4, 4))).all()
    assert (largest_parts(corner, 2) == corner).all()


def test_parts_do_not_connect_around_the_edge() -> None:
    edges = mask_with((3, 0, 6, 2), (2, 18, 6, 20))
    assert (largest_parts(edges, 1) == mask_with((2, 18, 6, 20))).all()


def test_empty_and_full_masks_stay_as_they_are() -> None:
    for mask in (np.zeros((8, 6), np.bool_), np.ones((8, 6), np.bool_)):
        assert (largest_parts(mask, 2) == mask).all()


def test_box_goes_around_the_lungs_with_a_margin() -> None:
    lungs = Lungs(mask_with(LEFT, RIGHT))
    assert lungs.box(0) == Box(left=0.1, top=0.2, right=0.9, bottom=0.8)
    assert lungs.box(0.1) == pytest.approx((0.02, 0.14, 0.98, 0.86))
    assert lungs.box(1) == WHOLE_IMAGE  # it ends at the image's edge


def test_too_little_lung_is_not_believed() -> None:
    lungs = Lungs(mask_with((0, 0, 3, 5)))
    assert lungs.area == pytest.approx(15 / 400)
    assert not lungs.plausible
    assert lungs.box() == WHOLE_IMAGE


def test_released_network_finds_the_lungs_of_a_generated_image(segmenter: LungSegmenter) -> None:
    pixels = synthetic_image(np.random.default_rng(0), 256, 224)
    lungs = segmenter.find(pixels)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    drawn = (
        np.minimum(*(((x - c) / 0.3) ** 2 + ((y + 0.05) / 0.65) ** 2 for c in (-0.42, 0.42))) < 1
    )
    overlap = 2 * (lungs.mask & drawn).sum() / (lungs.mask.sum() + drawn.sum())
    assert overlap > 0.8
    assert lungs.plausible
    deep = segmenter.find(pixels.astype(np.uint16) * 200)
    assert (deep.mask == lungs.mask).mean() > 0.99


def test_one_image_does_not_depend_on_the_others_of_its_batch(segmenter: LungSegmenter) -> None:
    squares = np.random.default_rng(1).integers(0, 256, (3, 128, 128)).astype(np.uint8)
    together = segmenter.probabilities(squares)
    assert together.shape == (3, 64, 64)
    assert together[1] == pytest.approx(segmenter.probabilities(squares[1:2])[0], abs=1e-5)


def test_image_of_another_size_is_refused(segmenter: LungSegmenter) -> None:
    with pytest.raises(ValueError, match=r"\(B, 128, 128\)"):
        segmenter.probabilities(np.zeros((1, 64, 64), np.uint8))


def test_released_network_is_small_and_says_how_good_it_is(segmenter: LungSegmenter) -> None:
    assert (PRETRAINED_LUNGS / GRAPH).stat().st_size < 2_000_000
    assert segmenter.card.dice.value >= 0.94
    assert segmenter.card.dice.low < segmenter.card.dice.value < segmenter.card.dice.high
    assert "non-commercial" in segmenter.card.licence


def test_damaged_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="xray train lungs"):
        LungSegmenter.load(tmp_path / "nowhere")
    broken = shutil.copytree(PRETRAINED_LUNGS, tmp_path / "broken")
    with (broken / GRAPH).open("ab") as graph:
        graph.write(b"more")
    with pytest.raises(BundleError, match="not the graph that its card describes"):
        LungSegmenter.load(broken)
    (broken / CARD).write_text("{}")
    with pytest.raises(BundleError, match="is not a card"):
        LungSegmenter.load(broken)
