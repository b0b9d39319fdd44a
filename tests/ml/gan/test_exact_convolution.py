"""Convolutions of the report's critic under bfloat16."""

import torch

from ml.gan.networks import ExactConv2d


def weight_gradient(layer: ExactConv2d, maps: torch.Tensor, *, reduced: bool) -> torch.Tensor:
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        layer(maps).float().square().sum().backward()
    assert layer.weight.grad is not None
    return layer.weight.grad.clone()


def test_maps_of_one_pixel_are_not_reduced_to_bfloat16() -> None:
    torch.manual_seed(0)
    layer = ExactConv2d(128, 256, 3, stride=2, padding=1)
    maps = torch.randn(16, 128, 1, 1)
    exact = weight_gradient(layer, maps, reduced=False)
    assert torch.equal(weight_gradient(layer, maps, reduced=True), exact)


def test_larger_maps_are_reduced() -> None:
    layer = ExactConv2d(4, 4, 3, stride=2, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 4, 8, 8)).dtype == torch.bfloat16
