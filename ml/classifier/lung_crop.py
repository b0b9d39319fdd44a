"""The crop of an image to its lungs, as a torch module that training and the exported graph share.

What lies outside the lungs (letters, borders, shoulders, the collimator's shape) tells hospitals
apart, and with them the labels. A classifier that sees the lungs alone cannot learn it there.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ml.imaging.lungs import GRAPH, LEAST_AREA, PRETRAINED_LUNGS, LungCard
from ml.imaging.preprocessing import HIGH_PERCENTILE, LOW_PERCENTILE
from ml.network_files import read_network
from ml.onnx_bytes import load_from_graph
from ml.segmentation.network import LungNetwork

# Side of the whole image that a crop is taken from, in pixels: lungs fill about two thirds of it.
WHOLE_SIDE = 320
# Added on each side of the lungs, as a share of their width or height.
MARGIN = 0.08
# Share of the lungs that may lie outside the box on each side, so that specks do not widen it.
TRIMMED = 0.005
# Grey levels are stretched by percentiles of the crop at this side: sorting more changes nothing.
PERCENTILE_SIDE = 56
# Positions of an activation map over the whole image, per side.
MAP_SIDE = 14
BATCH = 64


class LungCrop(nn.Module):
    """Find the lungs of whole images and crop to them.

    Every step is continuous, so that small differences between runtimes stay small.
    """

    def __init__(self, lungs: LungNetwork, lungs_side: int, side: int):
        """Take a trained network for the lungs.

        Args:
            lungs: the segmentation network.
            lungs_side: side of the images that it reads, in pixels.
            side: of the crops, in pixels.
        """
        super().__init__()
        self.lungs = lungs.eval().requires_grad_(requires_grad=False)
        self.lungs_side, self.side = lungs_side, side

    @classmethod
    def load(cls, side: int) -> "LungCrop":
        """The crop by the lung segmentation network that is part of this package.

        Raises:
            BundleError: its files are damaged.
        """
        command = "xray train lungs"
        card, graph = read_network(PRETRAINED_LUNGS / GRAPH, LungCard, command=command)
        network = LungNetwork(pretrained=False)
        load_from_graph(network, graph, command=command)
        return cls(network, card.input_size, side)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Crop whole images.

        Args:
            images: (B, 1, S, S) grey levels, 0 to 255.

        Returns:
            (B, 1, side, side) grey levels, 0 to 255, and the boxes (B, 4): left, top, right and
            bottom, in shares of the image.
        """
        boxes = self.boxes(images)
        left, top, right, bottom = boxes.unbind(dim=1)
        zero = torch.zeros_like(left)
        rows = [
            torch.stack([right - left, zero, left + right - 1], dim=1),
            torch.stack([zero, bottom - top, top + bottom - 1], dim=1),
        ]
        grid = _grid(torch.stack(rows, dim=1), self.side)
        crops = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        return _stretch(crops), boxes

    def boxes(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) grey levels -> (B, 4); the whole image where no lungs are found."""
        shape = (self.lungs_side, self.lungs_side)
        small = F.interpolate(images, shape, mode="bilinear", antialias=False, align_corners=False)
        # Certain pixels count most, uncertain ones nothing.
        lung = (torch.sigmoid(self.lungs(small))[:, 0] * 2 - 1).clamp_min(0)
        left, right = _extent(lung.sum(dim=1))
        top, bottom = _extent(lung.sum(dim=2))
        boxes = torch.stack([left, top, right, bottom], dim=1)
        whole = torch.tensor([0.0, 0.0, 1.0, 1.0], device=boxes.device)
        found = lung.mean(dim=(1, 2), keepdim=True)[:, :, 0] >= LEAST_AREA
        return torch.where(found, boxes, whole)


def place_on_whole(maps: Tensor, boxes: Tensor, side: int = MAP_SIDE) -> Tensor:
    """Put maps over crops back to where these lay in the whole images.

    Args:
        maps: (B, C, h, w).
        boxes: (B, 4), from `LungCrop`.
        side: of the result.

    Returns:
        (B, C, side, side), zero outside the boxes.
    """
    left, top, right, bottom = boxes.unbind(dim=1)
    wide, high = right - left, bottom - top
    zero = torch.zeros_like(left)
    rows = [
        torch.stack([1 / wide, zero, (1 - left - right) / wide], dim=1),
        torch.stack([zero, 1 / high, (1 - top - bottom) / high], dim=1),
    ]
    grid = _grid(torch.stack(rows, dim=1), side)
    return F.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)


@torch.inference_mode()
def crop_images(
    images: NDArray[np.uint8], crop: LungCrop, batch_size: int = BATCH
) -> NDArray[np.uint8]:
    """(N, S, S) whole images -> (N, side, side) crops, both in grey levels."""
    parts: list[NDArray[np.uint8]] = [
        crop(torch.from_numpy(images[start : start + batch_size])[:, None].float())[0]
        .round()
        .byte()[:, 0]
        .numpy()
        for start in range(0, len(images), batch_size)
    ]
    return np.concatenate(parts) if parts else images[:, : crop.side, : crop.side]


def _grid(rows: Tensor, side: int) -> Tensor:
    """(B, 2, 3) affine maps -> (B, side, side, 2) places to sample at."""
    centres = (torch.arange(side, device=rows.device, dtype=rows.dtype) * 2 + 1) / side - 1
    x = centres[None, None, :] * rows[:, 0, 0, None, None] + rows[:, 0, 2, None, None]
    y = centres[None, :, None] * rows[:, 1, 1, None, None] + rows[:, 1, 2, None, None]
    return torch.stack([x.expand(-1, side, -1), y.expand(-1, -1, side)], dim=-1)


def _extent(mass: Tensor) -> tuple[Tensor, Tensor]:
    """Begin and end of the lungs in shares of a side, from the lung at each place of it, (B, n)."""
    share = mass / mass.sum(dim=1, keepdim=True).clamp_min(1e-6)
    before = share.cumsum(dim=1) - share
    begin, end = (_crossing(share, before, level) for level in (TRIMMED, 1 - TRIMMED))
    wider = MARGIN * (end - begin)
    return (begin - wider).clamp(0, 1), (end + wider).clamp(0, 1)


def _crossing(share: Tensor, before: Tensor, level: float) -> Tensor:
    """Where the sum of the shares reaches a level, between places by interpolation."""
    passed = ((level - before) / share.clamp_min(1e-6)).clamp(0, 1)
    return passed.sum(dim=1) / share.shape[1]


def _stretch(crops: Tensor) -> Tensor:
    """Stretch grey levels between two percentiles of each crop to the full range."""
    small = F.adaptive_avg_pool2d(crops, PERCENTILE_SIDE).flatten(1)
    order = small.sort(dim=1).values
    low, high = (order[:, place] for place in _places(order.shape[1]))
    span = (high - low).clamp_min(1.0)
    return ((crops - low[:, None, None, None]) * (255 / span)[:, None, None, None]).clamp(0, 255)


def _places(count: int) -> Sequence[int]:
    return [round((count - 1) * level / 100) for level in (LOW_PERCENTILE, HIGH_PERCENTILE)]
