"""Embeddings of real images, kept between calls: they take minutes, and are always the same ones.

A file's name is a hash of the images' grey levels and of the network that looked at them, so what
is
found there is right whatever became of the data set. No picture is kept.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ml.files import write_whole
from ml.gan.evaluation.features import Embeddings, FeatureSpace
from ml.imaging.types import GreyImages

# Three files for each data set, size and network.
MOST_FILES = 24


def usual_cache() -> Path | None:
    """Where programs of this person keep what they can make again; None where that is nowhere."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "xray-screening"
    except RuntimeError:
        return None


class EmbeddingCache:
    """A folder of embeddings."""

    def __init__(self, folder: Path | None):
        """Touch nothing yet.

        Args:
            folder: it is made where it is missing; None keeps nothing.
        """
        self._folder = folder

    def points(
        self, space: FeatureSpace, images: GreyImages, embed: Callable[[GreyImages], Embeddings]
    ) -> Embeddings:
        """The embeddings of images (N, S, S), computed where they are not kept: (N, F)."""
        if self._folder is None:
            return embed(images)
        path = self._folder / f"{_name(space, images)}.npy"
        points = _read(path, (len(images), space.features))
        if points is None:
            points = embed(images)
            self._keep(path, points)
        return points

    def _keep(self, path: Path, points: Embeddings) -> None:
        """Write embeddings, and let go of those that nobody asked for longest."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, lambda file: np.save(file, points), private=True)
            files = sorted(path.parent.glob("*.npy"), key=lambda file: file.stat().st_mtime_ns)
            for old in files[:-MOST_FILES]:
                old.unlink(missing_ok=True)
        except OSError as problem:
            # The comparison succeeded; only the cache is lost.
            print(
                f"warning: embeddings are not kept in {path.parent} ({problem.strerror}): the next "
                "call computes them again; --cache names another folder",
                file=sys.stderr,
            )


def _name(space: FeatureSpace, images: GreyImages) -> str:
    digest = hashlib.sha256(f"{space.name} {space.sha256} {images.shape}\n".encode())
    digest.update(images.tobytes())
    return digest.hexdigest()


def _read(path: Path, shape: tuple[int, int]) -> Embeddings | None:
    """Kept embeddings; None where there are none, or damaged ones."""
    try:
        points: Embeddings = np.load(path, allow_pickle=False)
        # Asked for today: the last to go.
        path.touch()
    except (OSError, ValueError, EOFError):
        return None
    return points if points.shape == shape and points.dtype == np.float32 else None
