"""A class activation map as a transparent picture to lay over the image."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 224
# From faint violet over red to yellow: rises in lightness, so it reads without colour vision and
# on a dark image. (position, red, green, blue)
_RAMP = ((0.0, 60, 20, 110), (0.35, 160, 40, 110), (0.65, 235, 95, 50), (1.0, 255, 225, 90))
_MOST_OPAQUE = 215
# A map with less of its evidence than this in the box around the lungs explains nothing. The audit
# found at least as much in the map of the predicted class of each of 709 images, 0.98 on average.
LEAST_ON_LUNGS = 0.5


def render_heatmap(activation_map: NDArray[np.float32], index: int) -> bytes:
    """Draw where the evidence for one class lies.

    Shown is the class's map less the mean of the other classes' maps: what raises every class
    alike decides nothing. The scale is common to all classes of the image, so a class without
    evidence stays clear instead of being stretched to look convincing.

    Args:
        activation_map: (C, h, w), from `Prediction`.
        index: the class.

    Returns:
        A PNG with transparency, 224 x 224; it lies over the whole image when stretched to it.
    """
    evidence = np.maximum(class_evidence(activation_map), 0)
    strongest = max(float(evidence.max()), 1e-6)
    small = Image.fromarray((evidence[index] / strongest).astype(np.float32))
    smooth = np.clip(np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)), 0, 1)
    image = Image.fromarray(_coloured(smooth))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def class_evidence(activation_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, h, w): the map of each class less the mean of the other classes' maps."""
    classes = len(activation_map)
    others = (activation_map.sum(axis=0) - activation_map) / (classes - 1)
    evidence: NDArray[np.float32] = activation_map - others
    return evidence


def share_inside(
    activation_map: NDArray[np.float32], index: int, region: NDArray[np.bool_]
) -> float:
    """The share of the evidence for a class that lies in a region of the image.

    Args:
        activation_map: (C, h, w), over the whole image.
        index: the class.
        region: (H, W), over the whole image.

    Returns:
        0 to 1; NaN where nothing speaks for the class.
    """
    evidence = np.maximum(class_evidence(activation_map)[index], 0).astype(np.float32)
    height, width = region.shape
    even = Image.fromarray(evidence).resize((width, height), Image.Resampling.BILINEAR)
    total = float(np.asarray(even).sum())
    return float(np.asarray(even)[region].sum()) / total if total > 0 else float("nan")


def _coloured(strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(S, S) in [0, 1] -> (S, S, 4) RGBA; faint evidence is faint in opacity too."""
    places = [stop[0] for stop in _RAMP]
    channels = [np.interp(strength, places, [stop[k] for stop in _RAMP]) for k in (1, 2, 3)]
    opacity = _MOST_OPAQUE * np.clip(strength * 1.25, 0, 1)
    return np.stack([*channels, opacity], axis=-1).astype(np.uint8)


def pack_map(activation_map: NDArray[np.float32]) -> list[list[list[float]]]:
    """A map as nested lists of short numbers, for a JSON column."""
    rounded = np.round(activation_map.astype(np.float64), 4)
    nested: list[list[list[float]]] = rounded.tolist()
    return nested


def unpack_map(nested: Sequence[Sequence[Sequence[float]]]) -> NDArray[np.float32]:
    """The inverse of `pack_map`."""
    return np.asarray(nested, dtype=np.float32)
