"""What says of a film that nobody took it: in its file's metadata, and on the film where wanted."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

Film = NDArray[np.uint8]  # (H, W)
# Letters of five rows; a mark is white on black, so it is seen on any film.
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
# Films of this side show the word in letters of five pixels, larger ones in larger letters.
_SIDE = 64


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a synthetic film comes from.

    Attributes:
        generator_sha256: of the generator's file.
        seed: of the film; of a strip, those of its ends.
        label: the class that was asked for.
        truncation: of the latents.
        software: which version made it.
    """

    generator_sha256: str
    seed: str
    label: str
    truncation: float
    software: str

    def as_text(self) -> dict[str, str]:
        """Keys and values as they stand in the PNG file."""
        return {
            "synthetic": "true",
            "generator_sha256": self.generator_sha256,
            "seed": self.seed,
            "class": self.label,
            "truncation": f"{self.truncation:g}",
            "Software": self.software,
        }


def png_of(film: Film, provenance: Provenance) -> bytes:
    """A film as a PNG file that says where it comes from, in tEXt chunks."""
    text = PngInfo()
    for key, value in provenance.as_text().items():
        text.add_text(key, value)
    stream = io.BytesIO()
    Image.fromarray(film).save(stream, "PNG", pnginfo=text)
    return stream.getvalue()


def thumbnail_of(film: Film) -> bytes:
    """A film as a small JPEG file for lists, with the word SYNTHETIC on it."""
    scale = THUMBNAIL_SIDE / max(film.shape)
    height, width = (max(1, round(scale * side)) for side in film.shape)
    small = Image.fromarray(film).resize((width, height), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    Image.fromarray(marked(np.asarray(small))).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def marked(film: Film, scale: int = 0) -> Film:
    """The film with the word SYNTHETIC in its lower left corner, (H, W) -> (H, W).

    On films too narrow for the word, below 36 px, its first three letters stand for it.

    Args:
        film: grey levels.
        scale: how many pixels of the film a pixel of the letters is; 0 for what suits its width.
    """
    scale = scale or max(1, film.shape[1] // _SIDE)
    words = [np.kron(_written(word), np.full((scale, scale), 255, np.uint8)) for word in _WORDS]
    word = next((each for each in words if each.shape[1] <= film.shape[1]), words[-1])
    height, width = word.shape
    result = film.copy()
    result[-height:, :width] = word[:, : film.shape[1]]
    return result


def _written(word: str) -> Film:
    """A word in ones on zeros, with a border of one pixel and one between letters."""
    letters = [np.array([[c == "#" for c in row] for row in _LETTERS[one]]) for one in word]
    spaced = [np.pad(letter, ((_BORDER, _BORDER), (0, 1))) for letter in letters]
    written: Film = np.pad(np.concatenate(spaced, axis=1), ((0, 0), (_BORDER, 0))).astype(np.uint8)
    return written
