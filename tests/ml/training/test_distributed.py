"""Two processes train as one does: layers, gradients, and the classifier's whole loop."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ml.classifier import networks
from ml.classifier.trained_run import load_run
from ml.classifier.training import train_classifier
from ml.data.splits import Split, split_of
from ml.gan.generator_file import load_generator
from ml.gan.latents import latents_of
from ml.gan.training import CHECKPOINT, train_gan
from ml.labels import LABELS
from ml.training.checkpoint import load_checkpoint
from ml.training.distributed import ProcessGroup, join_process_group
from ml.training.synchronised_layers import synchronise_layers
from tests.support.gan_world import CPU, pixel_space
from tests.support.images import png, synthetic_image
from tests.support.two_processes import (
    GAN,
    OPTIONS,
    layer_results,
    records_in,
    register,
    second_order,
)

ALONE = ProcessGroup(0, 1, CPU)
TRAINING_IMAGES = 33  # batches of 16, 16 and 1: in the last one the first process has no image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of enough patients for a training and a validation split, and what two did to them."""
    root = tmp_path_factory.mktemp("together")
    images = root / "images"
    images.mkdir()
    random = np.random.default_rng(0)
    wanted = {Split.TRAIN: TRAINING_IMAGES, Split.VALIDATION: 9, Split.TEST: 0}
    for number in range(1000):
        split = split_of(f"p{number}")
        if wanted[split] and wanted[split] % 3 == number % 3:
            wanted[split] -= 1
            image = synthetic_image(random, 72, 72).astype(int)
            image[20:52, 20:52] += 45 * (number % 3)
            (images / f"{number}-p{number}.png").write_bytes(
                png(np.clip(image, 0, 255).astype(np.uint8))
            )
    assert not any(wanted.values())
    run_two(root)
    return root


def run_two(root: Path) -> None:
    """Run `tests.support.two_processes` twice at once; end all where they hang."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    running = subprocess.Popen(
        [*launcher, f"--master-port={port}", "-m", "tests.support.two_processes", str(root)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = running.communicate(timeout=300)
    finally:
        # The launcher takes its processes with it, which it would not where it was killed.
        running.terminate()
        running.wait(timeout=40)
    assert running.returncode == 0, output


@pytest.fixture(scope="module")
def results(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def test_processes_know_each_other(results: list[dict[str, Any]]) -> None:
    assert [(one["rank"], one["world_size"]) for one in results] == [(0, 2), (1, 2)]
    for one in results:
        assert one["agreed"] == [False, True, True]
        assert one["gathered"] == [0, 10, 20, 30, 40]
    # Of one image, two and five.
    assert [one["parts"] for one in results] == [
        [(0, 0), (0, 1), (0, 2)],
        [(0, 1), (1, 2), (2, 5)],
    ]


@pytest.mark.parametrize("count", [6, 5])
def test_layers_treat_the_parts_as_one_batch(results: list[dict[str, Any]], count: int) -> None:
    alone = layer_results(ALONE, count)
    for together in (one["layers"][count] for one in results):
        assert together.keys() == alone.keys()
        for name, expected in alone.items():
            torch.testing.assert_close(together[name], expected, atol=2e-6, rtol=1e-5, msg=name)
        # Dropout lost units in both halves, and not the same ones.
        lost = together["output"] == 0
        assert not torch.equal(lost[: count // 2], lost[count - count // 2 :])


def test_sum_is_differentiable_twice(results: list[dict[str, Any]]) -> None:
    """Each process's total is every value's, so slopes add up: twice as steep with two."""
    whole = second_order(ALONE)
    halves = [one["curve"] for one in results]
    assert torch.allclose(halves[0][:2], 4 * whole[:2])
    assert torch.allclose(halves[1][2:], 4 * whole[2:])


def test_two_processes_train_the_classifier_that_one_trains(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "BACKBONES", dict(networks.BACKBONES))
    register()
    records = records_in(folder / "images")
    assert sum(record.split is Split.TRAIN for record in records) == TRAINING_IMAGES
    alone = train_classifier(records, tmp_path, OPTIONS, device=CPU).state_dict()
    together = load_run(folder / "run")[0].state_dict()
    assert together.keys() == alone.keys()
    for name, expected in alone.items():
        torch.testing.assert_close(together[name], expected, atol=1e-5, rtol=1e-4, msg=name)
    logs = [run / "metrics.jsonl" for run in (tmp_path, folder / "run")]
    ours, theirs = ([json.loads(line) for line in log.read_text().splitlines()] for log in logs)
    assert len(ours) == len(theirs) == OPTIONS.epochs
    for row, other in zip(ours, theirs, strict=True):
        metrics = {name: value for name, value in row.items() if "second" not in name}
        assert metrics == pytest.approx({name: other[name] for name in metrics}, abs=1e-5)


def test_two_processes_train_the_gan_that_one_trains(folder: Path, tmp_path: Path) -> None:
    records = records_in(folder / "images")
    train_gan(records, tmp_path, GAN, device=CPU, features=pixel_space())
    runs = (tmp_path, folder / "gan")
    alone, together = (load_checkpoint(run / CHECKPOINT) for run in runs)
    for name, expected in alone["critic"].items():
        torch.testing.assert_close(together["critic"][name], expected, atol=1e-5, rtol=1e-3)
    # Images rather than weights: batch norm takes back what a bias before it adds, so the gradient
    # of such a bias is rounding alone, and Adam makes steps of full size of it.
    generators = [load_generator(run / "generator.safetensors").network for run in runs]
    latents = torch.from_numpy(latents_of(range(6), GAN.latent))
    classes = torch.arange(6) % len(LABELS)
    images, expected = (generator(latents, classes) for generator in generators)
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)
    for row, other in zip(together["rows"], alone["rows"], strict=True):
        for name in ("wasserstein", "penalty", "kid", "diversity"):
            assert row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-4)


def test_a_process_alone_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_process_group(CPU) == ALONE
    assert not torch.distributed.is_initialized()
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout())
    layers = list(network)
    assert list(synchronise_layers(network, ALONE)) == layers
    assert ALONE.weight_of(7) == 1.0
    values = torch.ones(3)
    assert ALONE.sum(values) is values


def test_layers_that_cannot_be_shared_are_named() -> None:
    for layer in (nn.BatchNorm1d(3), nn.Dropout2d()):
        with pytest.raises(TypeError, match=type(layer).__name__):
            synchronise_layers(nn.Sequential(layer), ProcessGroup(0, 2, CPU))
