"""Classifier networks, by name. Adding one is one entry in `BACKBONES`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ml.errors import XrayError
from ml.imagenet import FEATURES, efficientnet_lite


class Readout(NamedTuple):
    """All that one pass over a batch of images gives."""

    logits: Tensor  # (B, classes)
    embedding: Tensor  # (B, features)
    activation_map: Tensor  # (B, classes, h, w); its mean plus the bias is the logit


class ImageClassifier(nn.Module):
    """A convolutional backbone, global average pooling and one linear layer.

    With this head the class activation map (Zhou et al., "Learning Deep Features for
    Discriminative Localization", 2016) is exact: the logit of a class is the mean of its map plus
    its bias, so the map costs one small product and no backward pass.
    """

    def __init__(self, backbone: nn.Module, features: int, classes: int, dropout: float = 0.2):
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) in [0, 1] -> logits (B, classes)."""
        logits: Tensor = self.head(self.dropout(self._maps(images).mean(dim=(2, 3))))
        return logits

    def read(self, images: Tensor) -> Readout:
        """(B, 1, S, S) in [0, 1] -> logits, embedding and class activation map in one pass."""
        maps = self._maps(images)
        embedding = maps.mean(dim=(2, 3))
        activation_map = torch.einsum("bfhw,cf->bchw", maps, self.head.weight)
        return Readout(self.head(embedding), embedding, activation_map)

    def _maps(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) in [0, 1] -> (B, features, h, w)."""
        maps: Tensor = self.backbone(images * 2 - 1)
        return maps


class FlatImageClassifier(ImageClassifier):
    """A convolutional backbone and one linear layer over every position of its maps.

    The activation map is exact here too: each position has separate weights, and the products
    at a position, times the number of positions, average to the logit less its bias. The price is
    a network for images of one size and a head that may learn where a letter stands.
    """

    def __init__(self, backbone: nn.Module, features: int, side: int, classes: int):
        super().__init__(backbone, features * side**2, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) in [0, 1] -> logits (B, classes)."""
        logits: Tensor = self.head(self.dropout(self._maps(images).flatten(1)))
        return logits

    def read(self, images: Tensor) -> Readout:
        """(B, 1, S, S) in [0, 1] -> logits, embedding and class activation map in one pass.

        The embedding is the mean of the maps: short enough to recognize images
        unlike the training data, which tens of thousands of single positions are not.
        """
        maps = self._maps(images)
        positions = maps.shape[2] * maps.shape[3]
        weight = self.head.weight.view(-1, *maps.shape[1:])  # (classes, features, h, w)
        activation_map = torch.einsum("bfhw,cfhw->bchw", maps, weight) * positions
        return Readout(self.head(maps.flatten(1)), maps.mean(dim=(2, 3)), activation_map)


@dataclass(frozen=True, slots=True)
class Backbone:
    """How to build one backbone and what it needs."""

    build: Callable[[bool], nn.Module]  # argument: start from ImageNet weights
    features: int
    size: int  # side of its input in pixels
    flat_side: int = 0  # side of its maps where the head weighs every position; 0: their mean


def _efficientnet_lite0(pretrained: bool) -> nn.Module:
    """EfficientNet-Lite0 without its classifier: (B, 1, S, S) -> (B, 1280, S/32, S/32)."""
    return efficientnet_lite(0, pretrained=pretrained)


def _report_cnn(_pretrained: bool) -> nn.Module:
    """Three convolution + max-pool pairs: (B, 1, S, S) -> (B, 128, S/8, S/8).

    There are no ImageNet weights of this network: it always starts from random ones.
    """
    pairs = []
    for channels, filters in ((1, 32), (32, 64), (64, 128)):
        convolution = nn.Conv2d(channels, filters, 3, padding=1)
        # The greatest of four, cut at zero, is the greatest of four that were cut at zero: pooling
        # first gives the same numbers from a quarter of the work.
        pairs += [convolution, nn.MaxPool2d(2), nn.ReLU()]
    return nn.Sequential(*pairs)


BACKBONES: dict[str, Backbone] = {
    "efficientnet-lite0": Backbone(_efficientnet_lite0, features=FEATURES, size=224),
    # The report names pooling, dropout and "dense output". Flattening between them is what its
    # framework's tutorial did (dropout of 20 % included); the report names no average.
    "report-cnn": Backbone(_report_cnn, features=128, size=256, flat_side=32),
}


def backbone(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        XrayError: the name is unknown.
    """
    if name not in BACKBONES:
        raise XrayError(f"Unknown network {name!r}. Expected one of {', '.join(BACKBONES)}.")
    return BACKBONES[name]


def freeze_blocks(network: ImageClassifier, count: int) -> list[nn.Module]:
    """Exempt the stem and the first blocks of an EfficientNet from training.

    Args:
        network: the classifier.
        count: of the blocks; 0 freezes nothing, not even the stem.

    Returns:
        The parts that stay in evaluation mode, so that their batch norms keep ImageNet's averages.

    Raises:
        XrayError: the network has no such blocks.
    """
    if not count:
        return []
    body: Any = network.backbone
    if not hasattr(body, "blocks"):
        raise XrayError("Only efficientnet-lite0 has blocks to freeze. Give --frozen-blocks 0")
    frozen: list[nn.Module] = [body.conv_stem, body.bn1, *body.blocks[:count]]
    for part in frozen:
        part.requires_grad_(requires_grad=False)
    return frozen


def build_classifier(name: str, classes: int, *, pretrained: bool = False) -> ImageClassifier:
    """Build a classifier by its network's name.

    Args:
        name: a key of `BACKBONES`.
        classes: number of outputs.
        pretrained: start the backbone from ImageNet weights.

    Raises:
        XrayError: the name is unknown or the weights are not installed.
    """
    entry = backbone(name)
    body = entry.build(pretrained)
    if entry.flat_side:
        return FlatImageClassifier(body, entry.features, entry.flat_side, classes)
    return ImageClassifier(body, entry.features, classes)
