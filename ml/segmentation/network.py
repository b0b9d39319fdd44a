"""The lung segmentation network: a small U-Net on the first blocks of EfficientNet-Lite0."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ml.classifier.networks import backbone

ENCODER = "efficientnet-lite0"
# The deeper blocks hold nine tenths of the weights, and lungs are found without them.
ENCODER_BLOCKS = 4


class LungNetwork(nn.Module):
    """A U-Net (Ronneberger et al., 2015) with an ImageNet encoder.

    The mask has half the side of the image: a box and a share of the image need no finer one.
    """

    def __init__(self, *, pretrained: bool = True):
        """Build the network.

        Args:
            pretrained: start the encoder from ImageNet weights.
        """
        super().__init__()
        body: Any = backbone(ENCODER).build(pretrained)
        self.stem = nn.Sequential(body.conv_stem, body.bn1)
        # Channels 16, 24, 40 and 80, at 1/2, 1/4, 1/8 and 1/16 of the image's side.
        self.down = nn.ModuleList(body.blocks[:ENCODER_BLOCKS])
        self.up3 = _mix(80 + 40, 48)
        self.up2 = _mix(48 + 24, 32)
        self.up1 = _mix(32 + 16, 24)
        self.out = nn.Conv2d(24, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) grey levels, 0 to 255 -> (B, 1, S/2, S/2) logits of lung."""
        values = self.stem(images.float() / 127.5 - 1)
        skips = []
        for block in self.down:
            values = block(values)
            skips.append(values)
        for mix, skip in ((self.up3, skips[2]), (self.up2, skips[1]), (self.up1, skips[0])):
            values = F.interpolate(values, size=skip.shape[2:], mode="nearest")
            values = mix(torch.cat([values, skip], dim=1))
        logits: Tensor = self.out(values)
        return logits

    def decoder_parameters(self) -> list[nn.Parameter]:
        """What starts from nothing, and so learns faster than the encoder."""
        decoder = (self.up3, self.up2, self.up1, self.out)
        return [parameter for part in decoder for parameter in part.parameters()]

    def encoder_parameters(self) -> list[nn.Parameter]:
        """What starts from ImageNet."""
        return [*self.stem.parameters(), *self.down.parameters()]


def _mix(channels_in: int, channels_out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(),
    )
