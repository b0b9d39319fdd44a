"""`xray export generator`: measure a trained generator and write it for release."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml.commands.common import DataFolder, DeviceName, device_named
from ml.commands.gan_evaluation import print_evaluation, spaces_named
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import read_manifest
from ml.errors import XrayError
from ml.options.gan import LEAST_SAMPLES, GanReleaseOptions

if TYPE_CHECKING:
    import torch


@with_flags(GanReleaseOptions, panel="Options")
def export_generator_command(
    data: DataFolder,
    run: Annotated[Path, typer.Option(help="The training run's folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the generator, graph, card and samples.")],
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Measure a run's best generator, and write it with its graph, its card and samples."""
    from ml.gan.generator_file import GENERATOR

    options = GanReleaseOptions(**given)
    release(run / GENERATOR, data, out, options, device_named(device))


def release(
    trained: Path,
    data: Path,
    out: Path,
    options: GanReleaseOptions,
    device: "torch.device",
    on_measured: Callable[[], None] | None = None,
) -> None:
    """Export a trained generator and print its metrics.

    Args:
        trained: the generator's file.
        data: the data set's folder.
        out: the release's folder.
        options: how the generator is measured.
        device: where images are embedded.
        on_measured: called when the generator is measured, before it is exported.

    Raises:
        XrayError: as `ml.gan.release.release_generator`, or an unknown feature space.
    """
    from ml.gan.generator_file import load_generator
    from ml.gan.release import release_generator

    if 0 < options.samples < LEAST_SAMPLES:
        raise XrayError(
            f"--samples {options.samples} is too few. Give {LEAST_SAMPLES} or more, or 0 for as "
            "many as the test split has."
        )
    trained_with = load_generator(trained).card.options
    spaces = spaces_named(options.features, None, device, [trained_with])
    released = release_generator(
        trained,
        read_manifest(data),
        out,
        features=spaces,
        samples=options.samples or None,
        on_measured=on_measured,
    )
    if released.evaluation:
        print_evaluation(released.evaluation)
    else:
        print(released.generator.card.notes[-1])
    print(f"wrote {out}: generator.safetensors, generator.onnx, card.json, samples.png")
