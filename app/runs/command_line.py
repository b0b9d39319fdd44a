"""The command that starts a run with the same options."""

import shlex
from collections.abc import Mapping

from pydantic import JsonValue

from app.runs.handlers.base import RunType
from app.runs.tables import RunQueue
from ml.option_fields import option_fields


def start_command(
    run_type: RunType, options: Mapping[str, JsonValue], queue: RunQueue, priority: int
) -> str:
    """`xray run start` with the inputs of a run and the options that are not the defaults.

    Args:
        run_type: of the run.
        options: inputs and options, as its row stores them.
        queue: its device.
        priority: as it was entered.
    """
    defaults = {each.name: each.default for each in option_fields(run_type.Options)}
    words = ["xray", "run", "start", run_type.name]
    for each in run_type.inputs:
        if text := _text(options.get(each.name)):
            words += ["--set", f"{each.name}={text}"]
    for name, default in defaults.items():
        if name in options and options[name] != default:
            words += ["--set", f"{name}={_text(options[name])}"]
    if queue is not RunQueue.CPU:
        words += ["--queue", queue.value]
    if priority:
        words += ["--priority", str(priority)]
    return shlex.join(words)


def _text(value: JsonValue) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, list):
        return ",".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
