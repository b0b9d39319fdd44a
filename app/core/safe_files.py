"""Files inside a folder whose content or names come from strangers."""

from pathlib import Path, PurePath

from app.core.errors import NotFound
from ml.texts import msg

_GONE = msg("The file is no longer stored.")


def file_in(folder: Path, name: str, missing: str = _GONE) -> Path:
    """Find a file in a folder.

    Manifests and runs' folders are written by programs that read data from anywhere, so a name
    in them is not trusted: only what lies in the folder itself is shown or sent.

    Args:
        folder: may itself be reached through a symbolic link.
        name: relative to the folder, with slashes.
        missing: the error message.

    Raises:
        NotFound: there is no such file, or `path_in` refuses the name.
    """
    path = path_in(folder, name, missing)
    try:
        found = path.is_file()
    except OSError:  # the name is too long
        found = False
    if not found:
        raise NotFound(missing)
    return path


def path_in(folder: Path, name: str, missing: str = _GONE) -> Path:
    """Where a file in a folder is or would be.

    Raises:
        NotFound: the name is absolute, has `..` in it, or passes through a symbolic link.
    """
    root = folder.resolve()
    path = root / name
    try:
        # A symbolic link or `..` makes the two differ. A NUL in a path is a ValueError.
        is_inside = path.resolve() == path and path.is_relative_to(root) and path != root
    except (OSError, RuntimeError, ValueError):
        is_inside = False
    if not is_inside or PurePath(name).is_absolute():
        raise NotFound(missing)
    return path
