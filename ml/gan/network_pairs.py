"""The pairs of generator and critic, by name. Adding one is one entry in `NETWORKS`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ml.errors import XrayError
from ml.gan.networks import (
    SLOPE,
    MlpCritic,
    MlpGenerator,
    ReportCritic,
    ReportGenerator,
    ResnetCritic,
    ResnetGenerator,
)
from ml.gan.projected import GatedGenerator, ProjectedCritic
from ml.options.gan import GanOptions


@dataclass(frozen=True, slots=True)
class Pair:
    """How to build a generator and its critic."""

    generator: Callable[[GanOptions], nn.Module]
    critic: Callable[[GanOptions], nn.Module]
    powers_of_two: bool = False  # the size must be one


NETWORKS: dict[str, Pair] = {
    "mlp": Pair(MlpGenerator, MlpCritic),
    "report": Pair(ReportGenerator, ReportCritic),
    "resnet": Pair(ResnetGenerator, ResnetCritic, powers_of_two=True),
    "projected": Pair(GatedGenerator, ProjectedCritic, powers_of_two=True),
}


def network_pair(options: GanOptions) -> Pair:
    """The pair of networks that the options name.

    Raises:
        XrayError: there is none of that name, or none for images of that size.
    """
    if options.network not in NETWORKS:
        raise XrayError(
            f"Unknown --network {options.network!r}. Give one of {', '.join(NETWORKS)}."
        )
    pair = NETWORKS[options.network]
    if pair.powers_of_two and options.size & (options.size - 1):
        raise XrayError(
            f"--network {options.network} makes images of 16, 32, 64, 128, 256 or 512 px, not "
            f"{options.size}. Give another --size, or --network report."
        )
    return pair


def build_generator(options: GanOptions) -> nn.Module:
    """A generator with fresh weights; see `network_pair` for the errors."""
    generator = network_pair(options).generator(options)
    _initialise(generator, options)
    # Convolutions on the CPU and on tensor cores want channels last.
    return generator.to(memory_format=torch.channels_last)


def build_critic(options: GanOptions) -> nn.Module:
    """A critic with fresh weights; see `network_pair` for the errors."""
    critic = network_pair(options).critic(options)
    _initialise(critic, options)
    return critic.to(memory_format=torch.channels_last)


def _initialise(network: nn.Module, options: GanOptions) -> None:
    """Start weights: small normal ones for the convolutional minimax game, He's for the rest.

    Radford, Metz and Chintala ("Unsupervised Representation Learning with DCGANs", 2016) take a
    deviation of 0.02; a critic under a gradient penalty starts with a slope near zero then, and
    learns late.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if options.objective == "gan" and options.network == "report":
                nn.init.normal_(layer.weight, std=0.02)
            else:
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
