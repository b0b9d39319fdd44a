"""The average of several trainings' weights as one classifier.

Short trainings that start from the same weights and differ in their seed end near one another, so
the average of their weights is a classifier too, and varies less than any one of them ("Model
soups", Wortsman et al., 2022). It costs nothing when it is served.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ml.classifier.networks import build_classifier
from ml.classifier.trained_run import TrainedRun, load_run
from ml.errors import CheckpointError


def load_average(runs: Sequence[Path]) -> TrainedRun:
    """The average of the best weights of trainings that differ only in their seed.

    Statistics of batch norms are averaged like weights. `export_bundle` measures what comes out.

    Args:
        runs: the trainings' folders, at least one; the first one's seed stands in the options.

    Raises:
        CheckpointError: a folder holds no training, or they differ in more than their seed.
    """
    trained = [load_run(run) for run in runs]
    first = trained[0]
    seeds = tuple(one.options.seed for one in trained)
    for run, one in zip(runs, trained, strict=True):
        if _all_but_the_seed(one) != _all_but_the_seed(first):
            raise CheckpointError(
                f"{run} was trained otherwise than {runs[0]}. Average only those that differ in "
                "nothing but --seed."
            )
    if len(set(seeds)) < len(seeds):
        raise CheckpointError(
            f"Two of the trainings have the same seed ({', '.join(map(str, seeds))}). Give each "
            "one once."
        )
    states = [one.network.state_dict() for one in trained]
    network = build_classifier(first.options.network, len(first.labels))
    network.load_state_dict({name: _mean([state[name] for state in states]) for name in states[0]})
    return first._replace(network=network.eval(), averaged_seeds=seeds if len(seeds) > 1 else ())


def _all_but_the_seed(run: TrainedRun) -> tuple[object, ...]:
    return replace(run.options, seed=0), run.labels, run.synthetic, run.started_from


def _mean(values: Sequence[Tensor]) -> Tensor:
    # Counters of batch norms are no weights.
    return torch.stack(list(values)).mean(dim=0) if values[0].is_floating_point() else values[0]
