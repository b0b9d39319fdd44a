"""What several commands share: the data set's flag, the device, an orderly stop."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from ml.errors import CheckpointError, XrayError

if TYPE_CHECKING:
    import torch
DataFolder = Annotated[
    Path, typer.Option("--data", envvar="XRAY_DATA", help="A data set's folder.")
]
DeviceName = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")]


def device_named(name: str) -> "torch.device":
    """The device that a person asked for; `auto` is a GPU where there is one.

    Raises:
        XrayError: there is no such device here.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise XrayError(f"Unknown device {name!r}. Expected cpu, cuda or auto.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise XrayError("This machine has no CUDA device. Give --device cpu.")
    return device


@contextmanager
def until_stopped() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and Ctrl-C into a question that a loop asks, and into the exit status.

    The status is 143 or 130, as the shell has it. A second Ctrl-C ends the process at once, which
    costs what was done since the last save.
    """
    received: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {each: signal.signal(each, remember) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    except CheckpointError:
        # What a loop says when it was stopped before there was any result.
        if not received:
            raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if received:
        # Of processes that were started together, one speaks.
        if os.environ.get("RANK", "0") == "0":
            print("Stopped. Run the same command again to resume.", file=sys.stderr)
        raise typer.Exit(128 + received[0])
