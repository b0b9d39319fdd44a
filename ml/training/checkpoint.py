"""Saving and loading training state: atomic, bounded on disk, and never through pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ml.errors import CheckpointError
from ml.files import write_whole


def save_checkpoint(path: Path, state: Mapping[str, object]) -> None:
    """Replace `path` by `state` in one step.

    A crash or a full disk leaves the last good checkpoint.

    Args:
        path: the checkpoint's file; its folder exists.
        state: tensors, numbers, strings, and dicts and lists of them.
    """
    write_whole(path, lambda file: torch.save(state, file), private=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; code hidden in the file is not run (`weights_only`).

    Raises:
        CheckpointError: the file is damaged or holds more than plain data.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({type(problem).__name__}). "
            "Delete it to start again."
        ) from problem
    return state
