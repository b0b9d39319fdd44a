"""`xray interpolate`: draw the images between two seeds of a generator."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field
from pydantic.dataclasses import dataclass

from ml.commands.common import DeviceName, device_named
from ml.commands.options_to_flags import with_flags
from ml.commands.synthesize import (
    NO_PRIVACY_CHECK,
    CacheFolder,
    ComparedData,
    GeneratorFile,
    SynthesizeOptions,
    explain_write_errors,
    load_for_class,
    open_checker,
)
from ml.errors import XrayError

# The options that both commands share have one definition.
_SHARED = SynthesizeOptions.__pydantic_fields__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class InterpolationOptions:
    """Options of the command."""

    count: int = Field(default=8, ge=2, le=256, description="Number of images, both ends included.")
    label: str = _SHARED["label"]
    truncation: float = _SHARED["truncation"]
    refuse_below: float = _SHARED["refuse_below"]
    mark: bool = _SHARED["mark"]
    privacy_check: bool = _SHARED["privacy_check"]


@with_flags(InterpolationOptions, panel="Options")
def interpolate_command(
    first: Annotated[int, typer.Argument(help="Seed of the first image.")],
    second: Annotated[int, typer.Argument(help="Seed of the last image.")],
    out: Annotated[Path, typer.Option(help="Folder of the PNG file.")],
    generator: GeneratorFile = None,
    against: ComparedData = None,
    cache: CacheFolder = None,
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Draw the images between two seeds side by side, one row for each class."""
    from ml.gan.latents import SEEDS
    from ml.gan.synthesis.interpolation import draw_interpolation
    from ml.gan.synthesis.request import SynthesisRequest

    if min(first, second) < 0 or max(first, second) >= SEEDS:
        raise XrayError(
            f"Seed {first} or {second} is out of range. Give seeds from 0 to {SEEDS - 1}."
        )
    options, place = InterpolationOptions(**given), device_named(device)
    request = SynthesisRequest(
        label=options.label,
        truncation=options.truncation,
        mark=options.mark,
        refuse_below=options.refuse_below,
    )
    loaded = load_for_class(generator, options.label, place)
    checker = open_checker(loaded, against, cache, place) if options.privacy_check else None
    if checker is None:
        print(NO_PRIVACY_CHECK, file=sys.stderr)
    with explain_write_errors(out):
        path = draw_interpolation(loaded, out, (first, second), options.count, request, checker)
    print(f"wrote {path}")
