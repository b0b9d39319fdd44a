"""`xray export generator`: measure a trained generator and write it for release."""

from pathlib import Path
from typing import Annotated

import typer

from ml.cli_common import DataFolder, DeviceName, device_named
from ml.data import read_manifest
from ml.gan.measuring_cli import (
    DEFAULT_FEATURES,
    DEFAULT_SAMPLES,
    FeatureNames,
    print_evaluation,
    spaces_named,
)


def export_generator_command(
    data: DataFolder,
    run: Annotated[Path, typer.Option(help="The training run's folder.")],
    out: Annotated[Path, typer.Option(help="Where generator, card and samples go.")],
    samples: Annotated[int, typer.Option(min=16, help="How many films are measured.")] = (
        DEFAULT_SAMPLES
    ),
    features: FeatureNames = DEFAULT_FEATURES,
    device: DeviceName = "auto",
) -> None:
    """Measure a run's best generator on the test split, and write it with its card and samples."""
    from ml.gan.generator_file import GENERATOR
    from ml.gan.release import release_generator

    spaces = spaces_named(features, None, device_named(device))
    released = release_generator(
        run / GENERATOR, read_manifest(data), out, features=spaces, samples=samples
    )
    print_evaluation(released.evaluation)
    print(f"wrote {out}: generator.safetensors, card.json, samples.png")
