"""A classifier's weights for torch as one safetensors file, which says what they belong to."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from ml.errors import CheckpointError
from ml.files import write_whole


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of a classifier, by their names in torch."""

    state: dict[str, Tensor]  # all that `load_state_dict` asks for
    sha256: str  # of the file


def save_weights(path: Path, state: Mapping[str, Tensor], about: dict[str, str]) -> str:
    """Write weights in one step; the folder exists.

    Args:
        path: the file.
        state: weights by name.
        about: the file's metadata: `network` and `labels` (with commas) at least.

    Returns:
        The SHA-256 of the file.
    """
    content = save({name: value.contiguous() for name, value in state.items()}, about)
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()


def load_weights(path: Path, network: str, labels: Sequence[str]) -> Weights:
    """Read weights for a network of these classes, in this order.

    Raises:
        CheckpointError: there is no such file, or it is damaged, or not of this network and these
            labels.
    """
    if not path.is_file():
        raise CheckpointError(
            f"There are no weights at {path}. Create them with xray export weights."
        )
    try:
        with safe_open(path, "pt") as opened:
            about = opened.metadata() or {}
        content = path.read_bytes()
        state = load(content)
    except SafetensorError as problem:
        raise CheckpointError(
            f"{path} was not written by xray export weights ({problem})."
        ) from problem
    for name, wanted in (("network", network), ("labels", ",".join(labels))):
        if about.get(name) != wanted:
            raise CheckpointError(
                f"The weights in {path} are for the {name} {about.get(name, 'unknown')}, not "
                f"{wanted}."
            )
    return Weights(state, hashlib.sha256(content).hexdigest())
