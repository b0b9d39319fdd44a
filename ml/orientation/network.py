"""The orientation network: five small convolutions."""

from torch import Tensor, nn

from ml.imaging.orientation import ROTATIONS

CHANNELS = (16, 32, 48, 64, 96)


class OrientationNetwork(nn.Module):
    """A convolutional network of about a hundred thousand weights."""

    def __init__(self) -> None:
        """Build the network, with random weights."""
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out in zip((1, *CHANNELS), CHANNELS, strict=False):
            layers += [
                nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        # The map is flattened, not averaged: where things lie is what rotation is about.
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.LazyLinear(ROTATIONS + 2))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) grey levels, 0 to 255 -> (B, 6) logits: rotations, inverted, chest."""
        logits: Tensor = self.head(self.body(images.float() / 127.5 - 1))
        return logits
