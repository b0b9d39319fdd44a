"""`xray train lungs`: train the lung segmentation network."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ml.commands.common import DataFolder
from ml.commands.options_to_flags import with_flags
from ml.options.lungs import LungOptions


@with_flags(LungOptions, panel="Options of training")
def train_lungs_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder for lungs.onnx and card.json.")],
    **given: Any,
) -> None:
    """Train the lung segmentation network on the images that have a lung mask, and export it.

    The validation and test patients are held out and give the Dice on its card.
    """
    from ml.segmentation.export import train_and_export_lungs

    card = train_and_export_lungs(data, out, LungOptions(**given), on_epoch=_print_epoch)
    print(
        f"Dice {card.dice.value:.3f} (95 % interval {card.dice.low:.3f} to {card.dice.high:.3f}) "
        f"on {card.dice.n} images of {card.patients['held_out']} held-out patients: wrote {out}"
    )


def _print_epoch(number: int, loss: float) -> None:
    print(f"epoch {number}: loss of its last batch {loss:.3f}", flush=True)
