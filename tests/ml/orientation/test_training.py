"""The orientation network on generated images."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ml.data.splits import Split
from ml.errors import DataError
from ml.imaging.orientation import OrientationCheck
from ml.imaging.preprocessing import standardise
from ml.options.orientation import OrientationOptions
from ml.orientation.export import train_and_export_orientation
from ml.orientation.not_chest import KINDS, drawn, examples, shuffled
from ml.orientation.training import disturb, train_orientation
from tests.support.classifier_world import patient_in
from tests.support.gan_world import one_thread
from tests.support.images import png, synthetic_image

__all__ = ["one_thread"]  # a fixture that all tests here use
OPTIONS = OrientationOptions(epochs=2, batch_size=8, learning_rate=0.004)


def squares(count: int) -> NDArray[np.uint8]:
    images = [synthetic_image(np.random.default_rng(seed)) for seed in range(count)]
    return np.stack([standardise(image, 64) for image in images])


def write_data(root: Path, parts: tuple[Split, ...]) -> Path:
    root.mkdir()
    with (root / "manifest.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("image", "label", "source", "site", "patient"))
        for number, part in enumerate(parts):
            pixels = synthetic_image(np.random.default_rng(number))
            (root / f"{number}.png").write_bytes(png(pixels))
            row = (f"{number}.png", "normal", "north", "north", patient_in(part, number))
            writer.writerow(row)
    return root


def test_equal_seeds_give_equal_weights_and_other_seeds_do_not() -> None:
    losses: list[float] = []
    weights = []
    for seed in (0, 0, 1):
        options = OrientationOptions(epochs=1, batch_size=8, learning_rate=0.004, seed=seed)
        network = train_orientation(
            squares(8), [], options, on_epoch=lambda _epoch, loss: losses.append(loss)
        )
        weights.append(torch.cat([part.flatten() for part in network.state_dict().values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert len(losses) == 3
    assert np.isfinite(losses).all()


def test_turns_are_those_that_make_an_image_upright_again() -> None:
    image = torch.zeros(4, 64, 64, dtype=torch.uint8)
    image[:, :20] = 255  # the top is bright
    turns, inverted = torch.arange(4), torch.zeros(4, dtype=torch.bool)
    changed = disturb(image, turns, inverted, np.random.default_rng(1))
    for turn in range(4):
        upright = torch.rot90(changed[turn, 0], turn)
        assert upright[10:16].mean() > upright[40:54].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_pictures_are_standardised_and_differ(kind: str) -> None:
    random = np.random.default_rng(0)
    first, second = drawn(kind, random, 64), drawn(kind, random, 64)
    assert first.shape == (64, 64)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)


def test_shuffled_x_rays_keep_their_grey_levels() -> None:
    image = squares(1)[0]
    mixed = shuffled(image, np.random.default_rng(0))
    assert not np.array_equal(mixed, image)
    assert np.array_equal(np.sort(mixed, axis=None), np.sort(image, axis=None))
    assert examples(5, squares(2), [], np.random.default_rng(0)).shape == (5, 64, 64)


def test_exported_network_is_what_its_card_says(tmp_path: Path) -> None:
    parts = (*[Split.TRAIN] * 8, Split.VALIDATION, Split.TEST)
    data, out = write_data(tmp_path / "set", parts), tmp_path / "out"
    card = train_and_export_orientation(data, out, OPTIONS)
    check = OrientationCheck.load(out)
    assert check.card == card
    assert card.by_site == {"north": 8}
    assert card.metrics["held_out_patients"].images == 2
    assert set(KINDS) <= set(card.not_chest_found)
    assert check.logits(squares(3)).shape == (3, 6)


def test_data_set_without_images_to_measure_on_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "set", (Split.TRAIN,) * 8)
    with pytest.raises(DataError):
        train_and_export_orientation(data, tmp_path / "out", OPTIONS)
