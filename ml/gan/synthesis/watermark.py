"""Marks of synthetic images: provenance in the file's metadata, SYNTHETIC on the image."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ml.imaging.types import GreyImage
from ml.version import code_version

# Letters of five rows; the mark is white on black, so it is visible on any image.
_LETTERS = {
    "S": ("###", "#..", "###", "..#", "###"),
    "Y": ("#.#", "#.#", ".#.", ".#.", ".#."),
    "N": ("#..#", "##.#", "#.##", "#..#", "#..#"),
    "T": ("###", ".#.", ".#.", ".#.", ".#."),
    "H": ("#.#", "#.#", "###", "#.#", "#.#"),
    "E": ("###", "#..", "##.", "#..", "###"),
    "I": ("#", "#", "#", "#", "#"),
    "C": ("###", "#..", "#..", "#..", "###"),
}
_WORDS = ("SYNTHETIC", "SYN")
_BORDER = 1
THUMBNAIL_SIDE, _QUALITY = 128, 85
# Images of this side show the word in letters of five pixels, larger ones in larger letters.
_SIDE = 64


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of a synthetic image.

    Attributes:
        generator_sha256: of the generator's file.
        seed: of the image; of an interpolation, the seeds of both ends.
        label: the class.
        truncation: of the latents.
        software: name and version of the program.
    """

    generator_sha256: str
    seed: str
    label: str
    truncation: float
    software: str

    def as_text(self) -> dict[str, str]:
        """Keys and values of the PNG file's text chunks."""
        return {
            "synthetic": "true",
            "generator_sha256": self.generator_sha256,
            "seed": self.seed,
            "class": self.label,
            "truncation": f"{self.truncation:g}",
            "Software": self.software,
        }


def png_of(image: GreyImage, provenance: Provenance) -> bytes:
    """An image as a PNG file with its provenance in tEXt chunks."""
    text = PngInfo()
    for key, value in provenance.as_text().items():
        text.add_text(key, value)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", pnginfo=text)
    return stream.getvalue()


def thumbnail_of(image: GreyImage) -> bytes:
    """An image as a small JPEG file for lists, with the word SYNTHETIC on it."""
    scale = THUMBNAIL_SIDE / max(image.shape)
    height, width = (max(1, round(scale * side)) for side in image.shape)
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    Image.fromarray(marked(np.asarray(small))).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def marked(image: GreyImage, scale: int = 0) -> GreyImage:
    """The image with the word SYNTHETIC in its lower left corner, (H, W) -> (H, W).

    Images too narrow for the word, below 36 px, get its first three letters.

    Args:
        image: grey levels.
        scale: image pixels per pixel of a letter; 0 chooses by the image's width.
    """
    scale = scale or max(1, image.shape[1] // _SIDE)
    words = [np.kron(_written(word), np.full((scale, scale), 255, np.uint8)) for word in _WORDS]
    word = next((each for each in words if each.shape[1] <= image.shape[1]), words[-1])
    height, width = word.shape
    result = image.copy()
    result[-height:, :width] = word[:, : image.shape[1]]
    return result


def software() -> str:
    """The name and version of the program, as synthetic images carry it."""
    return f"xray-screening {code_version()}"


def _written(word: str) -> GreyImage:
    """A word in ones on zeros, with a border of one pixel and one between letters."""
    letters = [np.array([[c == "#" for c in row] for row in _LETTERS[one]]) for one in word]
    spaced = [np.pad(letter, ((_BORDER, _BORDER), (0, 1))) for letter in letters]
    written: GreyImage = np.pad(np.concatenate(spaced, axis=1), ((0, 0), (_BORDER, 0))).astype(
        np.uint8
    )
    return written
