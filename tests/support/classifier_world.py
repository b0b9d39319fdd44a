"""A tiny world for what trains and compares classifiers: 32 x 32 images that can be told apart."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn
from typer.testing import CliRunner, Result

from ml.classifier import networks
from ml.classifier.networks import Backbone
from ml.commands.main import app
from ml.data.splits import Split, split_of
from ml.labels import KNOWN_LABELS
from tests.ml.data.test_near_duplicates import textured_image
from tests.support.images import png

SIDE = 32
GENERATOR = "ab" * 32
# Under one of the names that the command line knows.
QUICK = (
    *("--network", "report-cnn", "--epochs", 2, "--small-epochs", 0, "--batch-size", 16),
    *("--learning-rate", 0.05, "--ema-decay", 0.6, "--device", "cpu"),
)


def tiny(_pretrained: bool) -> nn.Module:
    """A backbone of two layers."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
    )


@contextmanager
def tiny_network_of(side: int) -> Iterator[None]:
    """Replace the report's network by one that is trained in a moment, for images of this side."""
    patch = pytest.MonkeyPatch()
    patch.setitem(networks.BACKBONES, "report-cnn", Backbone(tiny, features=12, size=side))
    yield
    patch.undo()


@pytest.fixture(scope="module", autouse=True)
def tiny_network() -> Iterator[None]:
    """The tiny network in place of the report's."""
    with tiny_network_of(SIDE):
        yield


def xray(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(one) for one in arguments])


def patient_in(part: Split, number: int) -> str:
    """A patient key of this split."""
    tries = (f"{number}-{attempt}" for attempt in range(10_000))
    return next(key for key in tries if split_of(key) is part)


def write_data(
    root: Path,
    images: dict[Split, int],
    *,
    sources: Sequence[str] = ("north",),
    labels: Sequence[str] = KNOWN_LABELS,
) -> Path:
    """A data set with so many images of each class and split, two of each patient.

    One class has stripes across the image, another along it, the third none, a fourth checks;
    sources take turns.
    """
    rows = []
    for part, count in images.items():
        for number in range(count * len(labels)):
            label = labels[number % len(labels)]
            key = f"{part}-{label}-{number // len(labels) // 2}"
            source = sources[number // len(labels) % len(sources)]
            rows.append((label, source, patient_in(part, crc32(key.encode())), ""))
    return _write(root, rows)


def write_synthetic(root: Path, images: dict[str, int]) -> Path:
    """A folder as of `xray synthesize`, with so many images of each class."""
    source = f"synthetic-{GENERATOR[:12]}"
    classes = [label for label, count in images.items() for _ in range(count)]
    return _write(
        root, [(label, source, f"{source}-{n}", GENERATOR) for n, label in enumerate(classes)]
    )


def _write(root: Path, rows: Sequence[tuple[str, str, str, str]]) -> Path:
    root.mkdir(parents=True)
    with (root / "manifest.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("image", "label", "source", "patient", "synthetic"))
        for number, (label, *rest) in enumerate(rows):
            name = f"{root.name}-{number}.png"
            image = textured_image(crc32(name.encode())) + stripes(label)
            (root / name).write_bytes(png(np.clip(image, 0, 255).astype(np.uint8)))
            writer.writerow((name, label, *rest))
    return root


def stripes(label: str) -> NDArray[np.float64]:
    """What identifies a class, (256, 224): finer than what identifies near-duplicates."""
    wave = 60 * np.sin(np.arange(256) * 2 * np.pi / 32)
    across, along = np.tile(wave[:, None], (1, 224)), np.tile(wave[:224], (256, 1))
    both = np.where(across + along > 0, 200, -200)
    return {"covid": across, "pneumonia": along, "normal": 0 * along, "tuberculosis": both}[label]
