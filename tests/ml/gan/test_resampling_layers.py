"""Convolutions that change the size compute what the two plain operations compute."""

import pytest
import torch
from torch.nn import functional as F

from ml.gan.networks import DownConv2d, UpConv2d


@pytest.mark.parametrize("side", [1, 5, 8])
def test_up_convolution_is_nearest_up_sampling_then_convolution(side: int) -> None:
    layer = UpConv2d(3, 4).double()
    maps = torch.randn(2, 3, side, side, dtype=torch.float64)
    enlarged = F.interpolate(maps, scale_factor=2.0, mode="nearest")
    plain = F.conv2d(enlarged, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(maps), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [2, 6, 8])
def test_down_convolution_is_convolution_then_mean_of_four(side: int) -> None:
    layer = DownConv2d(3, 4).double()
    maps = torch.randn(2, 3, side, side, dtype=torch.float64)
    plain = F.avg_pool2d(F.conv2d(maps, layer.weight, layer.bias, padding=1), 2)
    torch.testing.assert_close(layer(maps), plain, rtol=1e-12, atol=1e-12)


def test_parameters_are_those_of_a_plain_convolution() -> None:
    plain = torch.nn.Conv2d(3, 4, 3)
    for layer in (UpConv2d(3, 4), DownConv2d(3, 4)):
        layer.load_state_dict(plain.state_dict())
