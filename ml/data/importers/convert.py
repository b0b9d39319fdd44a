"""Films on their way into a data set, decoded and reduced.

They wait in a folder of their own, where an import that was interrupted finds them again.
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ml.data.importers.records import clean_age, clean_sex
from ml.data.near_duplicates import WORDS, Hashes, file_hash
from ml.imaging.decode import read_film
from ml.imaging.preprocessing import standardise
from ml.imaging.types import Pixels

DIGEST_LENGTH = 12
_QUALITY = 95
# Beyond these the brightest and darkest pixels of a deep film are letters and dead pixels.
_RANGE = (0.1, 99.9)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What is known of a film after it was decoded once.

    Attributes:
        digest: beginning of the SHA-256 of the source's file.
        width: of the reduced film, as height.
        original_width: of the source's film, as original_height.
        fingerprint: the perceptual hash as hexadecimal digits.
    """

    digest: str
    width: int
    height: int
    original_width: int
    original_height: int
    fingerprint: str
    view: str
    sex: str
    age: str

    @property
    def hash(self) -> Hashes:
        """The perceptual hash, (len(CUT_SIDES), WORDS)."""
        words = np.frombuffer(bytes.fromhex(self.fingerprint), "<u8").astype(np.uint64)
        return words.reshape(-1, WORDS)


class Stage:
    """A folder of reduced films and a journal of them, one line of JSON each."""

    def __init__(self, folder: Path, short_side: int) -> None:
        self.folder = folder / str(short_side)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._short_side = short_side
        self._journal = self.folder / "journal.jsonl"
        self._done = self._read_journal()

    def film(self, digest: str) -> Path:
        """Where the reduced film lies."""
        return self.folder / f"{digest}.jpg"

    def mask(self, digest: str) -> Path:
        """Where the film's lung mask lies, if it has one."""
        return self.folder / f"{digest}.png"

    def decode(self, content: bytes) -> Decoded:
        """Decode, reduce and stage a film, or recall that this was done.

        Raises:
            UnreadableFilm: no film.
            BlankFilm: a film without contrast.
        """
        digest = digest_of(content)
        done = self._done.get(digest)
        if done and self.film(digest).is_file():
            return done
        film = read_film(content, shortest=2 * self._short_side or None)
        # What cannot be standardised cannot be trained on.
        standardise(film.pixels, 64)
        reduced = reduce(film.pixels, self._short_side)
        height, width = reduced.shape
        stored = _jpeg(reduced)
        decoded = Decoded(
            digest=digest,
            width=width,
            height=height,
            original_width=film.width,
            original_height=film.height,
            # Of the stored file: whoever looks at the data set later finds the same distances.
            fingerprint=file_hash(stored).astype("<u8").tobytes().hex(),
            view=film.metadata.get("ViewPosition", ""),
            sex=clean_sex(film.metadata.get("PatientSex", "")),
            age=clean_age(film.metadata.get("PatientAge", "")),
        )
        write_whole(self.film(digest), lambda path: path.write_bytes(stored))
        with self._journal.open("a") as journal:
            journal.write(json.dumps(asdict(decoded)) + "\n")
        self._done[digest] = decoded
        return decoded

    def stage_mask(self, source: Path, decoded: Decoded) -> None:
        """Stage a lung mask as a 1-bit PNG of the reduced film's size.

        Raises:
            ValueError: the file is no picture.
        """
        try:
            with Image.open(source, formats=("PNG", "JPEG")) as picture:
                size = (decoded.width, decoded.height)
                lungs = picture.convert("L").resize(size, Image.Resampling.BILINEAR)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as problem:
            raise ValueError(f"unreadable lung mask {source.name}") from problem
        mask = lungs.point(lambda grey: 255 * (grey >= 128)).convert("1")
        write_whole(self.mask(decoded.digest), lambda path: mask.save(path, "PNG"))

    def _read_journal(self) -> dict[str, Decoded]:
        if not self._journal.is_file():
            return {}
        # A kill may cut the last line short; what is added must not continue it.
        whole, newline, _torn = self._journal.read_text().rpartition("\n")
        write_whole(self._journal, lambda path: path.write_text(whole + newline))
        films = (Decoded(**json.loads(line)) for line in whole.splitlines())
        return {film.digest: film for film in films}


def _jpeg(greys: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(greys).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def digest_of(content: bytes) -> str:
    """The name of a file's bytes: the beginning of their SHA-256."""
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]


def reduce(pixels: Pixels, short_side: int) -> NDArray[np.uint8]:
    """Shrink a film to a short side, never enlarge it, and bring it to 8 bits.

    Args:
        pixels: (H, W); films of 8 bits keep their grey levels, deeper ones are stretched from
            their darkest to their brightest level.
        short_side: in pixels; 0 keeps the size.

    Returns:
        (h, w) grey levels.
    """
    height, width = pixels.shape
    image = Image.fromarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32))
    scale = short_side / min(height, width)
    if 0 < scale < 1:
        size = (round(width * scale), round(height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    small = np.asarray(image)
    if small.dtype == np.uint8:
        return small
    low, high = np.percentile(small, _RANGE)
    if low == high:
        low, high = small.min(), small.max()
    stretched = (small - low) * (255.0 / max(high - low, 1e-6))
    grey: NDArray[np.uint8] = np.rint(np.clip(stretched, 0, 255)).astype(np.uint8)
    return grey


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there: it is whole or not there at all."""
    partial = path.with_name(f".{path.name}.part")
    write(partial)
    partial.replace(path)
