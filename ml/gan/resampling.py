"""Convolutions that also double or halve the film, in one operation instead of two.

Nearest up-sampling by two followed by a 3 x 3 convolution reads every value up to four times with
different weights. Adding the weights first gives a transposed convolution with a 4 x 4 kernel and
stride 2: the same numbers (to rounding) from 4/9 of the products, and no enlarged map in memory.
Halving by the mean of 2 x 2 after a 3 x 3 convolution is the mirror image. The parameters are those
of the 3 x 3 convolution, so checkpoints do not know which way they are computed.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class UpConv2d(nn.Conv2d):
    """Nearest up-sampling by 2, then a 3 x 3 convolution: (B, C, H, W) -> (B, D, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """One transposed convolution."""
        kernel = _sum_of_neighbours(self.weight.flip(2, 3)).transpose(0, 1)
        return F.conv_transpose2d(maps, kernel, self.bias, stride=2, padding=1)


class DownConv2d(nn.Conv2d):
    """A 3 x 3 convolution, then the mean of each 2 x 2: (B, C, H, W) -> (B, D, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """One convolution with stride 2."""
        return F.conv2d(maps, _sum_of_neighbours(self.weight) / 4, self.bias, stride=2, padding=1)


def _sum_of_neighbours(kernel: Tensor) -> Tensor:
    """(D, C, 3, 3) -> (D, C, 4, 4): the kernel convolved with a 2 x 2 block of ones."""
    return (
        F.pad(kernel, (0, 1, 0, 1))
        + F.pad(kernel, (1, 0, 0, 1))
        + F.pad(kernel, (0, 1, 1, 0))
        + F.pad(kernel, (1, 0, 1, 0))
    )
