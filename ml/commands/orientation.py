"""`xray train orientation`: train the check for rotated, inverted and unsuitable images."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ml.commands.common import DataFolder
from ml.commands.options_to_flags import with_flags
from ml.options.orientation import OrientationOptions


@with_flags(OrientationOptions, panel="Options of training")
def train_orientation_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder for orientation.onnx and card.json.")],
    photographs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of PNG and JPEG pictures that are no X-rays; half of them train."
        ),
    ] = None,
    **given: Any,
) -> None:
    """Train the orientation check on upright frontal chest X-rays, and export it.

    The validation and test patients are held out; these and the site of --leave-out give the
    metrics on its card.
    """
    from ml.orientation.export import train_and_export_orientation

    card = train_and_export_orientation(
        data, out, OrientationOptions(**given), photographs=photographs, on_epoch=_print_epoch
    )
    for group, metrics in card.metrics.items():
        print(
            f"{group}: inverted found {metrics.inverted_found.value:.4f}, rotated found "
            f"{metrics.rotated_found.value:.4f}, false alarms {metrics.false_alarms.value:.4f}, "
            f"chest doubted {metrics.chest_doubted.value:.4f}, on {metrics.images} images"
        )
    for kind, found in card.not_chest_found.items():
        print(f"not a chest, {kind}: found {found.value:.3f} of {found.n}")
    print(f"wrote {out}")


def _print_epoch(number: int, loss: float) -> None:
    print(f"epoch {number}: loss of its last batch {loss:.3f}", flush=True)
