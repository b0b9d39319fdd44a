"""Whether a heat map lies on the lungs. A map that does not explains nothing and is not shown."""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ml.imaging.heatmap import LEAST_ON_LUNGS, share_inside
from ml.imaging.lungs import LungSegmenter

# By class: the share of its evidence in the box around the lungs, None where nothing speaks for it.
# Without any class: no lungs were found.
LungShares = Mapping[str, float | None]


class MapFault(StrEnum):
    """Why a heat map is not shown."""

    OUTSIDE_LUNGS = "outside-lungs"
    NO_LUNGS = "no-lungs"


class HeatMapCheck:
    """Measures heat maps as the audit does; safe to use from several threads at once."""

    def __init__(self, segmenter: LungSegmenter):
        """Find lungs with a segmentation network."""
        self._segmenter = segmenter

    @classmethod
    def load(cls) -> Self:
        """The check with the released segmentation network."""
        return cls(LungSegmenter.load())

    def shares(
        self, image: NDArray[np.uint8], activation_map: NDArray[np.float32], labels: Sequence[str]
    ) -> dict[str, float | None]:
        """The share of each class's evidence on the lungs, rounded to 4 digits.

        Args:
            image: (S, S), as the classifier was given it.
            activation_map: (C, h, w), from `Prediction`.
            labels: (C,) of the classifier.
        """
        lungs = self._segmenter.find(image)
        if not lungs.plausible:
            return {}
        region = lungs.box().mask(len(image))
        found = (share_inside(activation_map, place, region) for place in range(len(labels)))
        return {
            label: None if math.isnan(share) else round(share, 4)
            for label, share in zip(labels, found, strict=True)
        }


def map_fault(shares: LungShares | None, label: str) -> MapFault | None:
    """Why the map of a class is not shown; None where it is.

    Args:
        shares: as recorded; None for a prediction of before maps were checked.
        label: the class.
    """
    if shares is None:
        return None
    if not shares:
        return MapFault.NO_LUNGS
    share = shares[label]
    return MapFault.OUTSIDE_LUNGS if share is not None and share < LEAST_ON_LUNGS else None
