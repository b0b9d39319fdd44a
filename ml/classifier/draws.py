"""Random numbers for the images of a batch, the same however many processes share it."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers for the images of a global batch, of which those in hand are a part.

    What an image gets does not depend on how many processes share the batch.

    Attributes:
        generator: source of all randomness, on the CPU.
        count: images of the global batch.
        part: those in hand.
    """

    generator: torch.Generator
    count: int
    part: slice

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""
        return torch.rand(self.count, *shape, generator=self.generator)[self.part]

    def spread(self, reach: float, *shape: int) -> Tensor:
        """(B, *shape) uniform in [-reach, reach]."""
        return (self.uniform(*shape) * 2 - 1) * reach

    def chance(self, share: float) -> Tensor:
        """(B,) true with the given probability."""
        return self.uniform() < share

    def grain(self, images: Tensor) -> Tensor:
        """Standard normal noise of the images' shape, drawn for those in hand alone."""
        seeds = torch.randint(2**62, (self.count,), generator=self.generator)[self.part]
        noise = torch.empty(images.shape)
        for one, seed in zip(noise, seeds.tolist(), strict=True):
            one.normal_(generator=torch.Generator().manual_seed(seed))
        return noise.to(images)
