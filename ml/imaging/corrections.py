"""How an image lies, and the image turned upright with bright bones."""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ml.imaging.image_warnings import ImageWarning
from ml.imaging.types import Radiograph

_Depth = TypeVar("_Depth", np.uint8, np.uint16, np.uint8 | np.uint16)


@dataclass(frozen=True, slots=True)
class Orientation:
    """What was found in one image.

    Attributes:
        quarter_turns: counter-clockwise turns by 90 degrees that make it upright, 0 to 3.
        inverted: its bones are dark.
        chest: it looks like a frontal chest X-ray.
    """

    quarter_turns: int = 0
    inverted: bool = False
    chest: bool = True

    @property
    def upright(self) -> bool:
        """Whether nothing has to be corrected."""
        return not self.quarter_turns and not self.inverted

    @property
    def warnings(self) -> tuple[ImageWarning, ...]:
        """What has to be said of the image."""
        found: list[ImageWarning] = []
        if self.inverted:
            found.append(ImageWarning("inverted"))
        if self.quarter_turns:
            found.append(ImageWarning("rotated", {"degrees": str(90 * self.quarter_turns)}))
        if not self.chest:
            found.append(ImageWarning("no-frontal-chest"))
        return tuple(found)

    def correct(self, pixels: NDArray[_Depth]) -> NDArray[_Depth]:
        """Turn and invert an image, (H, W) -> (H, W) or (W, H), unsigned integers."""
        turned = np.rot90(pixels, self.quarter_turns)
        return np.ascontiguousarray(np.invert(turned) if self.inverted else turned)


UPRIGHT = Orientation()


def corrected(image: Radiograph, orientation: Orientation) -> Radiograph:
    """A decoded image, turned and inverted where needed.

    Args:
        image: not reduced.
        orientation: how it lies.
    """
    pixels = orientation.correct(image.pixels)
    height, width = pixels.shape
    return replace(image, pixels=pixels, width=width, height=height, turned=True)
