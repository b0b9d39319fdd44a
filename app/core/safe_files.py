"""Files of a data version by the names that its manifest gives them, and no files beside it."""

from pathlib import Path

from app.core.errors import NotFound


def file_in(folder: Path, name: str) -> Path:
    """A file of a data version.

    A manifest is written by a program that read images from anywhere: what it names is shown or
    sent
    to people only where it lies in the version's own folder.

    Args:
        folder: of the version.
        name: relative to the folder.

    Raises:
        NotFound: there is no such file, or the name or a link leads out of the folder.
    """
    path = place_in(folder, name)
    if not path.is_file():
        raise NotFound(_GONE)
    return path


def place_in(folder: Path, name: str) -> Path:
    """Where a file of a data version lies or would lie.

    Raises:
        NotFound: the name or a link leads out of the folder.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise NotFound(_GONE)
    return path


_GONE = "the image is no longer stored"
