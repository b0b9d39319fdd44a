"""Which files of a folder are images: by their contents, with what is left out and why.

CD exports name images `IM000001` or `x.ima`, and systems put other files beside them.
"""

from dataclasses import dataclass
from pathlib import Path, PurePath

from ml.imaging.decode import has_image_signature

IMAGE_SUFFIXES = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".jp2"),
        *(".heic", ".heif", ".dcm", ".dicom"),
    )
)
# Why a file is left out; the words are counted in reports.
SYSTEM_FILE = "file of the operating system"
CD_INDEX = "DICOMDIR, the index of a CD"
NOT_AN_IMAGE = "not an image by its contents"
BROKEN_LINK = "link to a missing file"
_HEAD_BYTES = 1024
_SYSTEM_NAMES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
# @eaDir: thumbnails of a network storage.
_SYSTEM_FOLDERS = frozenset(
    ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")
)
_DIRECTORY_CLASS = b"1.2.840.10008.1.3.10"  # Media Storage Directory Storage


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """The files below a folder.

    Attributes:
        images: by their contents, or damaged ones by their names, in order.
        left_out: all others, each with its reason.
    """

    images: list[Path]
    left_out: list[tuple[Path, str]]


def sort_files(folder: Path) -> FolderFiles:
    """Tell the images below a folder from everything else in it."""
    images: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        reason = _reason_to_leave_out(path, path.relative_to(folder))
        if reason:
            left_out.append((path, reason))
        else:
            images.append(path)
    return FolderFiles(images, left_out)


def is_system_file(inner: PurePath) -> bool:
    """Whether a system, and no person, put a file there.

    Args:
        inner: its path within the folder that was chosen.
    """
    hidden = any(part.startswith(".") for part in inner.parts)
    folders = {part.lower() for part in inner.parts[:-1]}
    return hidden or inner.name.lower() in _SYSTEM_NAMES or bool(folders & _SYSTEM_FOLDERS)


def _reason_to_leave_out(path: Path, inner: Path) -> str | None:
    if is_system_file(inner):
        return SYSTEM_FILE
    if not path.is_file():
        return BROKEN_LINK if path.is_symlink() else NOT_AN_IMAGE
    if path.stem.upper() == "DICOMDIR":
        return CD_INDEX
    # A damaged image has lost its signature and is still to be spoken of.
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return None
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None  # reading it as an image says why
    if head[128:132] == b"DICM" and _DIRECTORY_CLASS in head:
        return CD_INDEX
    return None if has_image_signature(head) else NOT_AN_IMAGE
