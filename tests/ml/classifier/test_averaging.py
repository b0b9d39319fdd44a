"""The average of several trainings as one classifier."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ml.classifier.averaging import load_average
from ml.classifier.export import export_run
from ml.classifier.predictor import Predictor
from ml.classifier.trained_run import load_run
from ml.classifier.training import train_classifier
from ml.data.manifest import ImageRecord, read_manifest
from ml.data.splits import Split
from ml.errors import CheckpointError
from ml.options.classifier import ClassifierOptions
from ml.reporting.model_card import render_model_card
from tests.support.classifier_world import tiny_network_of, write_data

OPTIONS = ClassifierOptions(network="report-cnn", epochs=1, small_epochs=0, batch_size=16)


@pytest.fixture(scope="module", autouse=True)
def tiny_network() -> Iterator[None]:
    with tiny_network_of(40):
        yield


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    counts = {Split.TRAIN: 24, Split.VALIDATION: 8, Split.TEST: 8}
    return read_manifest(write_data(tmp_path_factory.mktemp("images") / "data", counts))


@pytest.fixture(scope="module")
def runs(records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Trainings of the seeds 3 and 4."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (3, 4):
        options = dataclasses.replace(OPTIONS, seed=seed)
        train_classifier(records, folder / str(seed), options, device=torch.device("cpu"))
    return [folder / "3", folder / "4"]


def test_average_is_served_like_any_classifier(
    records: list[ImageRecord], runs: list[Path], tmp_path: Path
) -> None:
    average = load_average(runs)
    states = [load_run(run).network.state_dict() for run in runs]
    for name, value in average.network.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, (states[0][name] + states[1][name]) / 2)
    # Export itself compares the graph with the averaged network.
    card = export_run(
        records, average, tmp_path / "bundle", version="1", limitations=["Measured elsewhere."]
    )
    assert card.limitations[0] == "Measured elsewhere."
    assert card.data.averaged_seeds == [3, 4]
    assert "seeds 3, 4" in render_model_card(card)
    assert Predictor.load(tmp_path / "bundle").card.data == card.data


def test_one_training_is_its_own_average(runs: list[Path]) -> None:
    average, single = load_average(runs[:1]), load_run(runs[0])
    assert average.averaged_seeds == ()
    for name, value in single.network.state_dict().items():
        assert torch.equal(average.network.state_dict()[name], value)


def test_trainings_that_differ_in_more_than_their_seed_are_refused(
    records: list[ImageRecord], runs: list[Path], tmp_path: Path
) -> None:
    other = dataclasses.replace(OPTIONS, seed=5, label_smoothing=0.2)
    train_classifier(records, tmp_path / "other", other, device=torch.device("cpu"))
    with pytest.raises(CheckpointError, match="differ in nothing but --seed"):
        load_average([*runs, tmp_path / "other"])
    shutil.copytree(runs[0], tmp_path / "again")
    with pytest.raises(CheckpointError, match="same seed"):
        load_average([*runs, tmp_path / "again"])
