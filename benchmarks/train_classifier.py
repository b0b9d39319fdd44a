"""Images per second of training, against a plain loop in the same run.

    python -m benchmarks.train_classifier [--images 480] [--epochs 2]

Ours: `ml.classifier.training.train_classifier` as `xray train classifier` runs it, in float32 and,
where the
processor has it, in bfloat16; images are decoded once and kept as grey levels, batches are
augmented
as a whole, memory is channels last. Plain: the same network, batch and augmentation strength, each
image decoded and transformed by itself with torchvision in a DataLoader, contiguous float32.
Generated images, 256 px on the short side; the fastest epoch of each counts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.predict import radiograph
from ml.classifier.networks import build_classifier
from ml.classifier.training import train_classifier
from ml.data.manifest import ImageRecord
from ml.data.splits import Split
from ml.labels import LABELS
from ml.options.classifier import ClassifierOptions

BATCH = 32
SIZE = 224
CPU = torch.device("cpu")


def write_images(folder: Path, count: int) -> list[ImageRecord]:
    """Images of as many patients, each in the split that its patient's hash gives."""
    records = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        path.write_bytes(radiograph(256, number))
        label = LABELS[number % len(LABELS)]
        records.append(ImageRecord(path, label, "generated", f"patient-{number}"))
    return records


def ours(records: Sequence[ImageRecord], epochs: int, precision: str) -> float:
    """Images per second of our loop's fastest epoch."""
    options = ClassifierOptions(
        epochs=epochs, small_epochs=0, batch_size=BATCH, precision=precision, patience=epochs
    )
    speeds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train_classifier(
            records,
            Path(folder),
            options,
            device=CPU,
            on_tick=lambda row: speeds.append(row["images_per_second"]),
        )
    return max(speeds)


class PlainImages(Dataset[tuple[Tensor, int]]):
    """Decodes and transforms one image at a time, each time it is asked for."""

    def __init__(self, records: Sequence[ImageRecord]):
        self.records = list(records)
        self.transform = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomAffine(degrees=7, translate=(0.05, 0.05), scale=(0.88, 1.12), shear=3),
                v2.Resize((SIZE, SIZE), antialias=True),
                v2.ColorJitter(brightness=0.12, contrast=0.25),
                v2.GaussianBlur(3),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        record = self.records[index]
        with Image.open(record.path) as image:
            return self.transform(image.convert("L")), LABELS.index(record.label)


def plain(records: Sequence[ImageRecord], epochs: int) -> float:
    """Images per second of the plain loop's fastest epoch."""
    network = build_classifier("efficientnet-lite0", len(LABELS), pretrained=True).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loader = DataLoader(PlainImages(records), batch_size=BATCH, shuffle=True, num_workers=2)
    return max(_plain_epoch(network, optimizer, loader) for _ in range(epochs))


def _plain_epoch(
    network: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[tuple[Tensor, int]],
) -> float:
    start, images = time.perf_counter(), 0
    for batch, labels in loader:
        loss = F.cross_entropy(network(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        images += len(batch)
    return images / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=480)
    arguments.add_argument("--epochs", type=int, default=2)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        records = write_images(Path(folder), given.images)
        training = [record for record in records if record.split is Split.TRAIN]
        base = plain(training, given.epochs)
        table = Table("loop", "images/s", "ratio")
        table.add_row("plain, float32", f"{base:.1f}", "1.0")
        for precision in ("float32", "bfloat16"):
            speed = ours(records, given.epochs, precision)
            table.add_row(f"ours, {precision}", f"{speed:.1f}", f"{speed / base:.2f}")
    console = Console()
    console.print(f"{torch.get_num_threads()} threads, {len(training)} images an epoch")
    console.print(table)


if __name__ == "__main__":
    main()
