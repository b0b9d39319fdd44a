"""What the training of a classifier leaves in its folder: the best weights and what led to them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ml.classifier.networks import ImageClassifier, build_classifier
from ml.errors import CheckpointError
from ml.labels import KNOWN_LABELS
from ml.options.classifier import ClassifierOptions
from ml.training.checkpoint import load_checkpoint
from ml.training.run_folder import OPTIONS

BEST = "best.pt"


class TrainedRun(NamedTuple):
    """What a training run came to, and what from."""

    network: ImageClassifier  # the best weights
    options: ClassifierOptions
    synthetic: dict[str, dict[str, int]]  # `count_synthetic` of the training images
    started_from: str  # SHA-256 of the weights; empty where they were ImageNet's
    labels: tuple[str, ...] = KNOWN_LABELS  # the classes, in the order of the outputs
    averaged_seeds: tuple[int, ...] = ()  # where it is the average of several trainings


def load_run(out: Path) -> TrainedRun:
    """The best weights of a training run and what led to them.

    Raises:
        CheckpointError: the folder holds no run, or one that ended before its first epoch.
    """
    path = out / OPTIONS
    if not path.is_file():
        raise CheckpointError(
            f"{out} is not the folder of a training run. Give the --out of xray train classifier."
        )
    found = json.loads(path.read_text())
    options = ClassifierOptions(**found["options"])
    labels = tuple(found.get("labels", KNOWN_LABELS))
    return TrainedRun(
        network=best_network(out, options.network, labels),
        options=options,
        synthetic=found.get("synthetic", {}),
        started_from=found.get("started_from", ""),
        labels=labels,
    )


def best_network(out: Path, network_name: str, labels: Sequence[str]) -> ImageClassifier:
    """The averaged weights of the best epoch so far.

    Raises:
        CheckpointError: there is no such epoch yet.
    """
    if not (out / BEST).exists():
        raise CheckpointError(
            f"{out} has no epoch with a finite validation loss yet. Continue the training."
        )
    network = build_classifier(network_name, len(labels))
    network.load_state_dict(load_checkpoint(out / BEST))
    return network.eval()
