"""Saving and loading training state: atomic, bounded on disk, and never through pickle."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ml.errors import CheckpointError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace `path` by `state` in one step.

    A crash or a full disk leaves the last good checkpoint.

    Args:
        path: the checkpoint's file; its folder exists.
        state: tensors, numbers, strings, and dicts and lists of them.
    """
    with replacing(path) as file:
        torch.save(state, file)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the name `path` once it is complete and on disk, or leaves what is there.

    Args:
        path: its folder exists.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; code hidden in the file is not run (`weights_only`).

    Raises:
        CheckpointError: the file is damaged or holds more than plain data.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({type(problem).__name__}): "
            "delete it to start again"
        ) from problem
    return state
