"""Command-line flags made from an options class, and the file that may give them instead.

A run of the console starts its program with `--options FILE`: one JSON object with the value of
each flag by its parameter's name.
"""

import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import click
import typer

from ml.errors import XrayError
from ml.json_model import JsonObject
from ml.legacy import rename_keys
from ml.option_fields import OptionField, OptionValue, option_fields, validated_options

P = ParamSpec("P")


def flag_of(name: str, value: OptionValue) -> str:
    """The word of a command line that gives an option its value.

    Args:
        name: the option's field.
        value: a truth value becomes `--name` or `--no-name`, all else `--name=value`.
    """
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={value}"


def with_flags(
    options: type[Any], *, panel: str, show_defaults: bool = True
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Give a command a flag for every field of an options class, and `--options FILE`.

    The command takes them as `**given: Any`: those that were given, by the field's name, so that
    `validated_options(options, given, preset)` keeps the preset's value for the rest. A truth value
    becomes the two flags `--name` and `--no-name`. A value that the class does not allow is refused
    before the command begins. A command may have the flags of two classes; `given_of` tells them
    apart.

    Args:
        options: an options class (`ml.option_fields`).
        panel: the heading of these flags in the help.
        show_defaults: show the fields' defaults there; false where a preset has others.
    """
    flags = [_flag(each, panel, show_default=show_defaults) for each in option_fields(options)]
    names = [flag.name for flag in flags]

    def decorate(command: Callable[P, None]) -> Callable[P, None]:
        own = inspect.signature(command, eval_str=True)
        kept = [
            each
            for each in own.parameters.values()
            if each.kind is not each.VAR_KEYWORD and each.name != _OPTIONS_FILE.name
        ]

        @functools.wraps(command)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
            kwargs.pop(_OPTIONS_FILE.name, None)
            given = {name: kwargs.pop(name) for name in names}
            given = {name: value for name, value in given.items() if value is not None}
            validated_options(options, given)
            command(*args, **kwargs, **given)  # type: ignore[arg-type]

        parameters = [*kept, _OPTIONS_FILE, *flags]
        # Typer reads both.
        wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
        return wrapper

    return decorate


def given_of(options: type[Any], given: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Those of the given values that belong to an options class."""
    names = {each.name for each in option_fields(options)}
    return {name: value for name, value in given.items() if name in names}


def _flag(option: OptionField, panel: str, *, show_default: bool) -> inspect.Parameter:
    choices = f"[{'|'.join(option.choices)}]" if option.choices else None
    words = f"--{option.flag}" + (f"/--no-{option.flag}" if option.type is bool else "")
    flag = typer.Option(
        words,
        help=option.help,
        min=option.low,
        max=option.high,
        metavar=choices,
        show_default=(show_default and str(option.default)) or False,
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[option.type | None, flag],
    )


def _read_options_file(context: click.Context, path: Path | None) -> Path | None:
    """Take the values of a command's flags from a file; flags that are typed come first."""
    if path is None:
        return None
    values = _values_of(path)
    parameters = {each.name: each for each in context.command.params}
    if unknown := sorted(values.keys() - parameters.keys()):
        known = ", ".join(sorted(filter(None, parameters)))
        raise XrayError(f"Unknown option in {path}: {unknown[0]}. Expected some of {known}.")
    for name in values:
        # Click would read the environment before the file, which names the value explicitly.
        variable = parameters[name].envvar
        if isinstance(variable, str):
            os.environ.pop(variable, None)
    context.default_map = values
    return path


def _values_of(path: Path) -> JsonObject:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise XrayError(f"Cannot read the options in {path}: {problem}.") from problem
    if not isinstance(values, dict):
        raise XrayError(f"Cannot read the options in {path}: expected a JSON object.")
    found: JsonObject = rename_keys(values)
    return found


_OPTIONS_FILE = inspect.Parameter(
    "options_file",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None,
        typer.Option(
            "--options",
            metavar="FILE",
            is_eager=True,
            callback=_read_options_file,
            help="JSON file with option values; flags on the command line take precedence.",
        ),
    ],
)
