"""The check for pictures that are no frontal chest X-rays."""

import numpy as np
import pytest

from ml.data.manifest import DEMONSTRATION_FOLDER, read_manifest
from ml.imaging.decode import read_image
from ml.imaging.orientation import OrientationCheck
from ml.imaging.preprocessing import standardise
from ml.orientation.not_chest import KINDS, drawn


@pytest.fixture(scope="module")
def check() -> OrientationCheck:
    return OrientationCheck.load()


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_pictures_are_doubted(check: OrientationCheck, kind: str) -> None:
    random = np.random.default_rng(0)
    pictures = np.stack([drawn(kind, random, check.card.input_size) for _ in range(40)])
    found = [one.chest for one in check.find_all(pictures)]
    assert sum(found) <= 4


def test_chest_x_rays_are_not(check: OrientationCheck) -> None:
    images = [
        standardise(
            read_image(record.path.read_bytes(), least_side=record.least_side).pixels,
            check.card.input_size,
        )
        for record in read_manifest(DEMONSTRATION_FOLDER)
    ]
    found = [one.chest for one in check.find_all(np.stack(images))]
    assert np.mean(found) >= 0.95
