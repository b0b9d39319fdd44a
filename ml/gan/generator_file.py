"""A generator as one file: weights in safetensors, the card in its metadata. No pickle.

The file's SHA-256 is the generator's name: every synthetic image carries it.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from ml.errors import CheckpointError, XrayError
from ml.files import write_whole
from ml.gan.checks import check_options
from ml.gan.generator_card import GENERATOR_CARD_FORMAT, GeneratorCard
from ml.gan.network_pairs import build_generator
from ml.legacy import rename_weights

GENERATOR = "generator.safetensors"
PRETRAINED = Path(__file__).parents[1] / "pretrained" / "generator" / GENERATOR


@dataclass(frozen=True, slots=True)
class LoadedGenerator:
    """A generator ready to make images."""

    network: nn.Module  # in evaluation mode
    card: GeneratorCard
    sha256: str  # of the file

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes it can make; an unconditional one of several classes mixes them."""
        return self.card.labels


def save_generator(path: Path, network: nn.Module, card: GeneratorCard) -> str:
    """Write a generator in one step; its folder exists.

    Returns:
        The SHA-256 of the file.
    """
    # Safetensors wants plain memory order; loading puts channels last again.
    weights = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    content = save(weights, metadata={"card": json.dumps(card.as_json(), sort_keys=True)})
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()


def load_generator(path: Path, device: torch.device | None = None) -> LoadedGenerator:
    """Read a generator.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds no generator that this
            version can build.
    """
    if not path.is_file():
        raise CheckpointError(
            f"There is no generator at {path}. Give a .safetensors file of xray train gan."
        )
    content = path.read_bytes()
    card = _card_of(content, path)
    # Nothing is allocated before the file's own weights have been found to fit.
    with torch.device("meta"):
        network = build_generator(card.options)
    try:
        network.load_state_dict(rename_weights(load(content)), assign=True)
    except (SafetensorError, RuntimeError) as problem:
        raise CheckpointError(
            f"{path} does not contain the weights of its card. Copy it again."
        ) from problem
    network.float().to(memory_format=torch.channels_last)
    network.to(device or torch.device("cpu")).eval().requires_grad_(False)
    return LoadedGenerator(network, card, hashlib.sha256(content).hexdigest())


def _card_of(content: bytes, path: Path) -> GeneratorCard:
    """The card in a safetensors file: eight bytes of length, then a header of JSON."""
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        card = GeneratorCard.from_json(header["__metadata__"]["card"])
        # The file may be a stranger's: its labels become names of files, its sizes memory.
        check_options(card.options)
    except (XrayError, ValueError, KeyError, TypeError, RecursionError) as problem:
        why = f": {problem}" if isinstance(problem, XrayError) else ""
        raise CheckpointError(f"{path} is not a generator of xray train gan{why}") from problem
    if card.format != GENERATOR_CARD_FORMAT:
        raise CheckpointError(
            f"{path} has a card of format {card.format}. This version reads "
            f"{GENERATOR_CARD_FORMAT}. Export the generator again."
        )
    return card
