"""The one picture that shows all images of a quiz round."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy.orm import Session

from app.core.errors import NotFound
from app.core.safe_files import file_in
from app.datasets.tables import DataVersion
from app.datasets.versions import data_folder
from app.gallery.images import enlarged
from app.quiz.selection import COLUMNS, IMAGES, SHIPPED_WITH_0_1, shipped_sha256
from app.quiz.tables import QuizRound
from app.settings import Settings
from ml.gan.onnx_generator import GeneratorGraph
from ml.gan.synthesis.watermark import marked
from ml.imaging.decode import read_image
from ml.imaging.png import grey_png
from ml.imaging.preprocessing import BlankImage, standardise
from ml.imaging.types import GreyImage, UnreadableImage

# The side of an image in the picture, and the rim around it that repeats its edge: a browser that
# resizes the picture takes nothing of the neighbour in.
TILE, RIM = 192, 2
STEP = TILE + 2 * RIM
_LETTERS = 2
_GONE = "an image of this round is no longer there: begin another"


def sheet(
    session: Session,
    settings: Settings,
    found: QuizRound,
    graphs: Mapping[str, GeneratorGraph],
    *,
    answers: bool,
) -> bytes:
    """All images of a round in one PNG, in rows of `COLUMNS`.

    Images carry the word SYNTHETIC in the answers, and all of them in a round of practice.

    Args:
        session: the database.
        settings: name the home folder.
        found: the round.
        graphs: the generators that it needs, by SHA-256.
        answers: whether the round is over.

    Raises:
        NotFound: an image is gone, or images of its data set are not to be shown any more.
    """
    size = graphs[found.model_sha256].size
    folders: dict[str, Path] = {}
    tiles = []
    for image in found.images:
        if "image" in image:
            sha256 = image["data"]
            if sha256 not in folders:
                folders[sha256] = _folder_to_show(session, settings, sha256)
            pixels = _stored(folders[sha256], image["image"], size)
        else:
            graph = graphs[image.get("model", found.model_sha256)]
            pixels = graph.images([image["seed"]], image["label"])[0]
        is_marked = not found.counts or (answers and not image["real"])
        tiles.append(_tile(pixels, size, is_marked=is_marked))
    rows = [np.concatenate(tiles[n : n + COLUMNS], axis=1) for n in range(0, IMAGES, COLUMNS)]
    return grey_png(np.concatenate(rows))


def generators_of(found: QuizRound) -> set[str]:
    """The generators whose images a round has."""
    return {found.model_sha256} | {image["model"] for image in found.images if "model" in image}


def _folder_to_show(session: Session, settings: Settings, sha256: str) -> Path:
    """The folder of a data version whose images may be shown at this moment."""
    version = session.get(DataVersion, sha256)
    shipped = (shipped_sha256(), SHIPPED_WITH_0_1)
    if version is None or not (version.quiz_allowed or sha256 in shipped):
        raise NotFound(_GONE)
    return data_folder(settings, version)


def _stored(folder: Path, image: str, size: int) -> NDArray[np.uint8 | np.uint16]:
    try:
        return read_image(file_in(folder, image).read_bytes(), shortest=2 * size).pixels
    except (NotFound, UnreadableImage) as problem:
        raise NotFound(_GONE) from problem


def _tile(pixels: NDArray[np.uint8 | np.uint16], size: int, *, is_marked: bool) -> GreyImage:
    """An image as all are shown: standardised as a generator's images are, enlarged, with its
    rim.
    """
    try:
        image = standardise(pixels, size)
    except BlankImage:
        image = np.asarray(Image.fromarray(pixels.astype(np.uint8)).resize((size, size)))
    tile = enlarged(image, TILE, exactly=True)
    return np.pad(marked(tile, _LETTERS) if is_marked else tile, RIM, mode="edge")
