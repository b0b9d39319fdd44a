"""Heat maps beside the lungs are found, and only those."""

import numpy as np
import pytest

from ml.imaging.heatmap import LEAST_ON_LUNGS
from ml.imaging.heatmap_check import HeatMapCheck, MapFault, map_fault
from tests.support.images import synthetic_image

LABELS = ("covid", "pneumonia", "normal")


def test_share_of_each_class_on_the_lungs() -> None:
    check = HeatMapCheck.load()
    chest = synthetic_image(np.random.default_rng(1), 224, 224)
    maps = np.zeros((3, 8, 8), np.float32)
    maps[0, 3:5, 2:6] = 1  # over the lungs
    maps[1, 0, :] = 1  # along the upper edge
    shares = check.shares(chest, maps, LABELS)
    assert shares == {
        "covid": pytest.approx(1, abs=0.05),
        "pneumonia": pytest.approx(0, abs=0.2),
        "normal": None,
    }
    faults = [map_fault(shares, label) for label in LABELS]
    assert faults == [None, MapFault.OUTSIDE_LUNGS, None]


def test_without_lungs_no_map_is_shown() -> None:
    ramp = np.tile(np.arange(224, dtype=np.uint8), (224, 1))
    shares = HeatMapCheck.load().shares(ramp, np.ones((3, 8, 8), np.float32), LABELS)
    assert shares == {}
    assert map_fault(shares, "covid") is MapFault.NO_LUNGS


def test_bound_is_the_audits_and_old_predictions_keep_their_maps() -> None:
    assert map_fault({"covid": LEAST_ON_LUNGS}, "covid") is None
    assert map_fault({"covid": LEAST_ON_LUNGS - 1e-4}, "covid") is MapFault.OUTSIDE_LUNGS
    assert map_fault(None, "covid") is None
