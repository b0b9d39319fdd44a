"""Pictures that are no frontal chest X-ray: drawn ones, shuffled X-rays, and given photographs."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ml.imaging.preprocessing import BlankImage, standardise
from ml.imaging.types import GreyImage

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
TILES = 4
DRAWN_AT = 128


def drawn(kind: str, random: np.random.Generator, size: int) -> GreyImage:
    """One picture of a kind of `KINDS`, (size, size)."""
    while True:
        pixels = np.clip(KINDS[kind](random, DRAWN_AT), 0, 255).astype(np.uint8)
        try:
            return standardise(pixels, size)
        except BlankImage:
            continue


def cropped(picture: GreyImage, random: np.random.Generator, size: int) -> GreyImage:
    """A random part of a photograph, at least a quarter of its short side, as a square."""
    side = int(min(picture.shape) * random.uniform(0.25, 1))
    top, left = (int(random.integers(0, length - side + 1)) for length in picture.shape)
    part = picture[top : top + side, left : left + side]
    try:
        return standardise(part, size)
    except BlankImage:
        return drawn("noise", random, size)


def shuffled(image: GreyImage, random: np.random.Generator) -> GreyImage:
    """An X-ray whose tiles were shuffled: its texture without its anatomy."""
    side = len(image) // TILES
    tiles = image.reshape(TILES, side, TILES, side).swapaxes(1, 2).reshape(-1, side, side)
    mixed = tiles[random.permutation(len(tiles))].reshape(TILES, TILES, side, side)
    return np.ascontiguousarray(mixed.swapaxes(1, 2).reshape(image.shape))


def _noise(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Noise whose amplitude falls with a random power of the frequency."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = np.fft.rfft2(random.normal(size=(side, side)))
    image = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / side) ** random.uniform(0, 2.5))
    scaled: NDArray[np.float64] = 128 + 50 * (image - image.mean()) / (image.std() or 1)
    return scaled


def _shapes(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    picture = Image.new("L", (side, side), int(random.integers(0, 256)))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(1, 12))):
        left, top = random.integers(-side // 4, side, 2)
        width, height = random.integers(side // 16, side, 2)
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((left, top, left + width, top + height), fill=int(random.integers(0, 256)))
    return _blurred(picture, random)


def _limb(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Bright bars in grey flesh on black, as of a hand or a leg."""
    picture = Image.new("L", (side, side), int(random.integers(0, 30)))
    draw = ImageDraw.Draw(picture)
    angle = random.uniform(0, np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    across = direction[::-1] * (-1, 1)
    for _ in range(int(random.integers(1, 6))):
        middle = side / 2 + across * random.uniform(-0.4, 0.4) * side
        half = direction * random.uniform(0.3, 0.9) * side
        ends = [tuple(middle - half), tuple(middle + half)]
        width = int(random.uniform(0.08, 0.25) * side)
        draw.line(ends, fill=int(random.integers(70, 120)), width=width)
        draw.line(ends, fill=int(random.integers(150, 256)), width=max(2, width // 3))
    return _blurred(picture, random) + random.normal(0, 4, (side, side))


def _page(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Lines of words, dark on bright or bright on dark."""
    page = np.full((side, side), 240.0)
    line = int(random.integers(3, 9))
    for top in range(line, side - line, 2 * line):
        left = int(random.integers(2, 12))
        while left < side - 4:
            word = int(random.integers(2, 4 * line))
            page[top : top + line, left : left + word] = random.uniform(0, 120)
            left += word + line // 2 + 1
    return page if random.random() < 0.7 else 255 - page


def _waves(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    image = np.zeros((side, side))
    for _ in range(int(random.integers(1, 4))):
        row, column = random.uniform(-12, 12, 2)
        image += np.sin(2 * np.pi * (row * y + column * x) + random.uniform(0, 6))
    return 128 + 100 * np.sign(image) if random.random() < 0.3 else 128 + 60 * image


def _ramp(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    a, b, c = random.normal(size=3)
    ramp: NDArray[np.float64] = 128 + 60 * (a * x + b * y + c * (x**2 + y**2))
    return ramp + random.normal(0, 5, (side, side))


def _blurred(picture: Image.Image, random: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(random.uniform(0, 4))), np.float64)


KINDS: dict[str, Draw] = {
    "noise": _noise,
    "shapes": _shapes,
    "limb": _limb,
    "page": _page,
    "waves": _waves,
    "ramp": _ramp,
}


def examples(
    count: int,
    images: NDArray[np.uint8],
    photographs: Sequence[GreyImage],
    random: np.random.Generator,
) -> NDArray[np.uint8]:
    """Pictures of all kinds, in equal parts on average.

    Args:
        count: how many.
        images: (N, S, S) X-rays to shuffle the tiles of.
        photographs: to take parts of; may be empty.
        random: draws them.

    Returns:
        (count, S, S) standardised.
    """
    kinds = (*KINDS, "shuffled", *(["photograph"] * 3 if photographs else []))
    return np.stack(
        [one_of(str(kind), images, photographs, random) for kind in random.choice(kinds, count)]
    )


def one_of(
    kind: str,
    images: NDArray[np.uint8],
    photographs: Sequence[GreyImage],
    random: np.random.Generator,
) -> GreyImage:
    """One picture of a kind: of `KINDS`, "shuffled" or "photograph"; arguments as in `examples`."""
    size = images.shape[1]
    if kind == "shuffled":
        return shuffled(images[random.integers(len(images))], random)
    if kind == "photograph":
        return cropped(photographs[int(random.integers(len(photographs)))], random, size)
    return drawn(kind, random, size)
