"""Layers that couple the images of a batch, or draw for it, made to act as in one process."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ml.training.distributed import ProcessGroup


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of the global batch, on any device.

    (torch's own SyncBatchNorm needs CUDA.) Mean and variance are exchanged in two sums rather than
    as sum and sum of squares, whose difference loses digits where the mean is large.
    """

    def __init__(self, norm: nn.BatchNorm2d, group: ProcessGroup, after: nn.Module):
        """Take the place of a layer, with its parameters and statistics.

        Args:
            norm: the layer, which may be one of timm's that holds an activation as well.
            group: the processes that share the statistics.
            after: what else the layer does to its result.
        """
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        # The very same tensors: an optimiser or a state dict that holds them stays right.
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.training = norm.training
        self.group = group
        self.after = after

    def forward(self, input: Tensor) -> Tensor:
        """(b, C, H, W), this process's images -> the same shape."""
        if self.training or self.running_mean is None:
            normalised = self._normalise(input.float()).to(input.dtype)
        else:
            normalised = super().forward(input)
        changed: Tensor = self.after(normalised)
        return changed

    def _normalise(self, images: Tensor) -> Tensor:
        count = images.new_tensor([images.numel() / self.num_features])
        sums = self.group.sum(torch.cat([images.sum(dim=(0, 2, 3)), count]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = images - mean[:, None, None]
        variance = self.group.sum(centred.square().sum(dim=(0, 2, 3))) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
            return centred * scale[:, None, None] + self.bias[:, None, None]
        return centred * scale[:, None, None]

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None  # it comes with the other two
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # the plain average over all batches
            momentum = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class SynchronisedDropout(nn.Dropout):
    """Dropout that draws for the global batch and keeps its part.

    Processes are seeded alike, so without it the first image of each would lose the same units.
    """

    def __init__(self, p: float, group: ProcessGroup):
        """Drop with chance `p`; `group` holds the other images of the batch."""
        super().__init__(p)
        self.group = group

    def forward(self, input: Tensor) -> Tensor:
        """(b, ...), this process's images -> the same shape."""
        if not self.training:
            return input
        sizes = input.new_zeros(self.group.world_size, dtype=torch.float32)
        sizes[self.group.rank] = len(input)
        ends = self.group.sum(sizes).cumsum(0).long().tolist()
        whole = input.new_ones(ends[-1], *input.shape[1:])
        last = ends[self.group.rank]
        return input * F.dropout(whole, self.p)[last - len(input) : last]


def synchronise_layers(network: nn.Module, group: ProcessGroup) -> nn.Module:
    """Let batch normalisation and dropout treat the parts of a batch as one batch.

    Nothing is changed in a single process. Names and values of parameters and statistics stay, so
    a state dict fits both before and after. Layers are replaced within `network`.

    Args:
        network: its batch norms are `BatchNorm2d` or timm's with an activation.
        group: the processes that train it together.

    Returns:
        The network, for chaining.

    Raises:
        TypeError: a batch normalisation or a dropout of a kind that is not known here.
    """
    if group.world_size == 1:
        return network
    for name, child in network.named_children():
        setattr(network, name, _synchronised(child, group))
    return network


def _synchronised(layer: nn.Module, group: ProcessGroup) -> nn.Module:
    from timm.layers.norm_act import BatchNormAct2d

    match layer:
        case SynchronisedBatchNorm2d() | SynchronisedDropout():
            return layer
        case BatchNormAct2d():
            after = nn.Sequential(layer.drop, layer.act)
            return SynchronisedBatchNorm2d(layer, group, after)
        case nn.BatchNorm2d() if type(layer) is nn.BatchNorm2d:
            return SynchronisedBatchNorm2d(layer, group, nn.Identity())
        case nn.Dropout():
            return SynchronisedDropout(layer.p, group)
        case nn.modules.batchnorm._BatchNorm() | nn.modules.dropout._DropoutNd():
            raise TypeError(
                f"{type(layer).__name__} has no synchronised counterpart. "
                "Add one to ml/training/synchronised_layers.py."
            )
    return synchronise_layers(layer, group)
