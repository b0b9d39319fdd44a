"""A disk that is full when a checkpoint is written."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ml.training.checkpoint import load_checkpoint, save_checkpoint


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses what is written beyond, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_last_good_checkpoint_stays_when_the_next_one_finds_no_room(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1, "weights": torch.ones(1000)})
    with no_file_larger_than(64 * 2**10), pytest.raises((OSError, RuntimeError)):
        save_checkpoint(path, {"step": 2, "weights": torch.ones(100_000)})
    assert load_checkpoint(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]
    save_checkpoint(path, {"step": 2, "weights": torch.ones(100_000)})
    assert load_checkpoint(path)["step"] == 2
