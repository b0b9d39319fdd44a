"""`xray export generator`: measure a trained generator and write it for release."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml.commands.common import DataFolder, DeviceName, device_named
from ml.commands.gan_evaluation import FeatureNames, print_evaluation, spaces_named
from ml.data.manifest import read_manifest
from ml.options.gan import DEFAULT_FEATURES

if TYPE_CHECKING:
    import torch
SampleCount = Annotated[
    int | None,
    typer.Option(
        "--samples",
        min=16,
        help="Number of images to generate; default: as many as the test split has, 64 to 512.",
    ),
]


def export_generator_command(
    data: DataFolder,
    run: Annotated[Path, typer.Option(help="The training run's folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the generator, graph, card and samples.")],
    samples: SampleCount = None,
    features: FeatureNames = DEFAULT_FEATURES,
    device: DeviceName = "auto",
) -> None:
    """Measure a run's best generator, and write it with its graph, its card and samples."""
    from ml.gan.generator_file import GENERATOR

    release(run / GENERATOR, data, out, samples, features, device_named(device))


def release(
    trained: Path,
    data: Path,
    out: Path,
    samples: int | None,
    features: str,
    device: "torch.device",
) -> None:
    """Export a trained generator and print its metrics.

    Args:
        trained: the generator's file.
        data: the data set's folder.
        out: the release's folder.
        samples: how many images are measured; None leaves it to the number of test images.
        features: names of feature spaces, commas between.
        device: where images are embedded.

    Raises:
        XrayError: as `ml.gan.release.release_generator`, or an unknown feature space.
    """
    from ml.gan.release import release_generator

    spaces = spaces_named(features, None, device)
    released = release_generator(
        trained, read_manifest(data), out, features=spaces, samples=samples
    )
    if released.evaluation:
        print_evaluation(released.evaluation)
    else:
        print(released.generator.card.notes[-1])
    print(f"wrote {out}: generator.safetensors, generator.onnx, card.json, samples.png")
