"""The command that trains GANs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.commands.common import DataFolder, DeviceName, device_named, until_stopped
from ml.commands.gan_release import release
from ml.commands.options_to_flags import flag_of, given_of, with_flags
from ml.data.manifest import read_manifest
from ml.errors import XrayError
from ml.option_fields import option_values, validated_options
from ml.options.gan import GAN_PRESETS, RELEASE_FOLDER, GanOptions, GanReleaseOptions
from ml.training.phases import enter_phase

if TYPE_CHECKING:
    import torch
DEFAULT_PRESET = "wgan-gp"
PRESET_WORDS = {
    "gan": "the basic GAN of 2014: dense layers, minimax game",
    "dcgan": "the same game between convolutional networks with batch norm",
    "wgan": "Wasserstein distance, the critic's weights clipped",
    "wgan-gp": "Wasserstein distance with a gradient penalty: the report's choice",
    "resnet": "wgan-gp between residual networks: the best images, for a GPU",
    "r3gan": "relativistic loss with two gradient penalties, of 2024",
    "projected": "heads on the features of a frozen network: the soonest on a CPU",
}


def _print_presets(asked: bool) -> None:
    if not asked:
        return
    table = Table("preset", "what it is", f"{DEFAULT_PRESET} with")
    for name, preset in GAN_PRESETS.items():
        table.add_row(name, PRESET_WORDS[name], _differences(preset))
    Console().print(table)
    raise typer.Exit


def _differences(preset: GanOptions) -> str:
    """The flags that would turn the usual preset into this one."""
    usual = option_values(GAN_PRESETS[DEFAULT_PRESET])
    return " ".join(
        flag_of(name, value)
        for name, value in option_values(preset).items()
        if value != usual[name]
    )


@with_flags(
    GanOptions,
    panel="Options of training: a flag that is not given takes the preset's value",
    show_defaults=False,
)
@with_flags(GanReleaseOptions, panel="Options of --export")
def train_gan_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="The run's folder; the same one resumes.")],
    preset: Annotated[
        str, typer.Option(help=f"Preset: {', '.join(GAN_PRESETS)}; see --presets.")
    ] = DEFAULT_PRESET,
    budget_minutes: Annotated[
        float | None,
        typer.Option(min=0.0, help="Training time in minutes, over all calls together."),
    ] = None,
    export: Annotated[
        bool,
        typer.Option(
            "--export", help="Then evaluate the best generator and export it to OUT/release."
        ),
    ] = False,
    device: DeviceName = "auto",
    presets: Annotated[  # noqa: ARG001  # its callback answers
        bool,
        typer.Option(
            "--presets",
            is_eager=True,
            callback=_print_presets,
            help="List the presets and exit.",
        ),
    ] = False,
    **given: Any,
) -> None:
    """Train a GAN on the training split, and keep the generator with the lowest KID.

    The same command resumes an interrupted training; after a crash, from the last evaluation.
    SIGTERM and Ctrl-C end it after the current step, with exit status 143 or 130. To use several
    processes: accelerate launch -m ml train gan ...
    """
    import math

    from ml.gan.training import train_gan
    from ml.training.distributed import join_process_group

    if preset not in GAN_PRESETS:
        raise XrayError(f"Unknown preset {preset!r}. Expected one of {', '.join(GAN_PRESETS)}.")
    options = validated_options(GanOptions, given_of(GanOptions, given), GAN_PRESETS[preset])
    place = device_named(device)
    with until_stopped() as should_stop:
        generator = train_gan(
            read_manifest(data),
            out,
            options,
            device=place,
            budget_minutes=math.inf if budget_minutes is None else budget_minutes,
            on_tick=_print_tick,
            should_stop=should_stop,
        )
    if not join_process_group(place).is_first:
        return
    print(f"trained: generate images with xray synthesize --generator {generator} --out FOLDER")
    if export:
        chosen = validated_options(GanReleaseOptions, given_of(GanReleaseOptions, given))
        _release(generator, data, out / RELEASE_FOLDER, chosen, place)


def _release(
    generator: Path,
    data: Path,
    out: Path,
    options: GanReleaseOptions,
    place: "torch.device",
) -> None:
    from ml.gan.release import is_released

    if is_released(generator, out):
        print(f"{out} already has this generator")
    else:
        run = generator.parent
        enter_phase(run, "measuring")
        release(
            generator, data, out, options, place, on_measured=lambda: enter_phase(run, "exporting")
        )


def _print_tick(row: dict[str, float]) -> None:
    print(
        f"step {row['step']:.0f}: Wasserstein {row['wasserstein']:.3g}, penalty "
        f"{row['penalty']:.3g}, KID {row['kid']:.4f}, diversity {row['diversity']:.2f} "
        f"({row['images_per_second']:.0f} images/s)",
        flush=True,
    )
