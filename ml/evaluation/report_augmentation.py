"""The augmentation of the 2021 report: a little rotation, shear, tilt, and mirror images."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def change_image(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """The report's augmentation of one image, (S, S) -> (S, S).

    Rotation by 2 to 5 degrees to either side, shear within 2 degrees, a tilt of 3 to 5 degrees to
    the left or right as a camera at a distance of the image's width would see it, and a mirror
    image every other time; enlarged so that no corner is empty, as Augmentor does.
    """
    angle, tilt = (
        math.radians(random.uniform(low, high) * random.choice((-1, 1)))
        for low, high in ((2, 5), (3, 5))
    )
    shear = math.tan(math.radians(random.uniform(-2, 2)))
    mirror = random.choice((-1, 1))
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    lean = np.array([[mirror * math.cos(tilt), shear, 0], [0, 1, 0], [math.sin(tilt) / 2, 0, 1]])
    warp = turn @ lean
    # In coordinates from -1 to 1: how far do the corners reach over the image?
    corners = warp @ np.array([[-1, 1, -1, 1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    reach = np.abs(corners[:2] / corners[2]).max()
    half = len(image) / 2
    to_unit_square = np.array([[1 / half, 0, -1], [0, 1 / half, -1], [0, 0, 1]])
    to_pixels = np.linalg.inv(to_unit_square) @ np.diag([1 / reach, 1 / reach, 1])
    pixels = to_pixels @ warp @ to_unit_square
    changed = Image.fromarray(image).transform(
        image.shape[::-1],
        Image.Transform.PERSPECTIVE,
        tuple((pixels / pixels[2, 2]).ravel()[:8]),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(changed)
