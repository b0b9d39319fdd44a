"""Decode and reduce the images of an import.

They are staged in a separate folder, where an interrupted import finds them again.
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ml.data.importers.records import clean_age, clean_sex
from ml.data.near_duplicates import WORDS, Hashes, file_hash
from ml.files import write_whole
from ml.imaging.decode import read_image
from ml.imaging.preprocessing import standardise
from ml.imaging.types import Pixels

DIGEST_LENGTH = 12
_QUALITY = 95
# Beyond these the brightest and darkest pixels of a deep image are letters and dead pixels.
_RANGE = (0.1, 99.9)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What is known of an image after it was decoded once.

    Attributes:
        digest: beginning of the SHA-256 of the source's file.
        width: of the reduced image, as height.
        original_width: of the source's image, as original_height.
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
    """A folder of reduced images and a journal of them, one line of JSON each."""

    def __init__(self, folder: Path, short_side: int) -> None:
        self.folder = folder / str(short_side)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._short_side = short_side
        self._journal = self.folder / "journal.jsonl"
        self._done = self._read_journal()

    def image(self, digest: str) -> Path:
        """Where the reduced image lies."""
        return self.folder / f"{digest}.jpg"

    def mask(self, digest: str) -> Path:
        """Where the image's lung mask lies, if it has one."""
        return self.folder / f"{digest}.png"

    def decode(self, content: bytes) -> Decoded:
        """Decode, reduce and stage an image, or recall that this was done.

        Raises:
            UnreadableImage: no image.
            BlankImage: an image without contrast.
        """
        digest = digest_of(content)
        done = self._done.get(digest)
        if done and self.image(digest).is_file():
            return done
        image = read_image(content, shortest=2 * self._short_side or None)
        # What cannot be standardised cannot be trained on.
        standardise(image.pixels, 64)
        reduced = reduce(image.pixels, self._short_side)
        height, width = reduced.shape
        stored = _jpeg(reduced)
        decoded = Decoded(
            digest=digest,
            width=width,
            height=height,
            original_width=image.width,
            original_height=image.height,
            # Of the stored file: hashing the data set later gives the same distances.
            fingerprint=file_hash(stored).astype("<u8").tobytes().hex(),
            view=image.metadata.get("ViewPosition", ""),
            sex=clean_sex(image.metadata.get("PatientSex", "")),
            age=clean_age(image.metadata.get("PatientAge", "")),
        )
        write_whole(self.image(digest), stored)
        with self._journal.open("a") as journal:
            journal.write(json.dumps(asdict(decoded)) + "\n")
        self._done[digest] = decoded
        return decoded

    def stage_mask(self, source: Path, decoded: Decoded) -> None:
        """Stage a lung mask as a 1-bit PNG of the reduced image's size.

        Raises:
            ValueError: the file is no picture.
        """
        try:
            with Image.open(source, formats=("PNG", "JPEG")) as picture:
                size = (decoded.width, decoded.height)
                lungs = picture.convert("L").resize(size, Image.Resampling.BILINEAR)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as problem:
            raise ValueError(f"The lung mask {source.name} cannot be read.") from problem
        mask = lungs.point(lambda grey: 255 * (grey >= 128)).convert("1")
        write_whole(self.mask(decoded.digest), lambda file: mask.save(file, "PNG"))

    def _read_journal(self) -> dict[str, Decoded]:
        if not self._journal.is_file():
            return {}
        # A kill may cut the last line short; what is added must not continue it.
        whole, newline, _torn = self._journal.read_text().rpartition("\n")
        write_whole(self._journal, whole + newline)
        images = (Decoded(**json.loads(line)) for line in whole.splitlines())
        return {image.digest: image for image in images}


def _jpeg(greys: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(greys).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def digest_of(content: bytes) -> str:
    """The name of a file's bytes: the beginning of their SHA-256."""
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]


def reduce(pixels: Pixels, short_side: int) -> NDArray[np.uint8]:
    """Shrink an image to a short side, never enlarge it, and bring it to 8 bits.

    Args:
        pixels: (H, W); images of 8 bits keep their grey levels, deeper ones are stretched from
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
