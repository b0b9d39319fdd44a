"""Random changes of what scanners differ in."""

import numpy as np
import pytest
import torch

from ml.classifier.augmentation import Augmentation
from ml.classifier.draws import Draws
from ml.classifier.harmonisation import Harmonisation
from tests.support.images import synthetic_image


def batch(count: int = 6, side: int = 64) -> torch.Tensor:
    random = np.random.default_rng(0)
    images = np.stack([synthetic_image(random, side, side) for _ in range(count)])
    return torch.from_numpy(images)[:, None].float() / 255


def draws(count: int = 6, part: slice = slice(0, 6)) -> Draws:
    return Draws(torch.Generator().manual_seed(3), count, part)


def test_images_change_each_in_their_own_way_and_stay_in_range() -> None:
    images = batch(1).repeat(6, 1, 1, 1)
    changed = Harmonisation()(images, draws())
    assert changed.shape == images.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert len({round(float(one.mean()), 6) for one in changed}) > 3


@pytest.mark.parametrize("change", ["equalised", "sharpened", "coarsened", "filtered"])
def test_a_change_with_no_share_leaves_the_images(change: str) -> None:
    none = dict.fromkeys(("equalised", "sharpened", "coarsened", "filtered"), 0.0)
    images = batch()
    assert torch.equal(Harmonisation(**none)(images, draws()), images)
    assert not torch.allclose(Harmonisation(**none | {change: 1.0})(images, draws()), images)


def test_what_an_image_gets_does_not_depend_on_the_other_processes() -> None:
    images, augment = batch(), Augmentation(harmonisation=Harmonisation())
    whole = augment(images, draws())
    halves = [augment(images[part], draws(part=part)) for part in (slice(0, 3), slice(3, 6))]
    assert torch.allclose(whole, torch.cat(halves), atol=1e-5)


def test_equalising_flattens_the_histogram() -> None:
    images = batch() ** 3
    only = Harmonisation(equalised=1.0, sharpened=0, coarsened=0, filtered=0)
    changed = only(images, draws())
    assert float((changed.mean(dim=(1, 2, 3)) - 0.5).abs().mean()) < float(
        (images.mean(dim=(1, 2, 3)) - 0.5).abs().mean()
    )
