"""Command-line flags made of an options dataclass: an option is defined once, with its help.

A field's metadata says what a person is told (`help`), the range it must lie in (`min`, `max`), and
the words it may be where it is one of a few (`choices`).
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Annotated, Any, ParamSpec, get_type_hints

import typer

from ml.errors import XrayError

P = ParamSpec("P")


def flag_of(name: str, value: Any) -> str:
    """The one word of a command line that gives an option its value.

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
    """Give a command a flag for every field of a dataclass.

    The command takes them as `**given: Any`: those that were typed, by the field's name, and no
    others, so that `dataclasses.replace(preset, **given)` keeps the preset's value for the rest.
    A truth value becomes the two flags `--name` and `--no-name`. A word that is none of the
    field's choices is refused with an XrayError before the command begins.

    Args:
        options: a dataclass whose fields have `help`, `min` and `max` in their metadata, and may
            have `choices`.
        panel: the heading of these flags in the help.
        show_defaults: tell the fields' defaults there; false where a preset has others.
    """
    types = get_type_hints(options)
    flags = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                types[each.name] | None,
                typer.Option(
                    help=each.metadata["help"],
                    min=each.metadata["min"],
                    max=each.metadata["max"],
                    metavar=_metavar(each),
                    show_default=(show_defaults and str(each.default)) or False,
                    rich_help_panel=panel,
                ),
            ],
        )
        for each in fields(options)
    ]
    names = {flag.name for flag in flags}

    def decorate(command: Callable[P, None]) -> Callable[P, None]:
        own = inspect.signature(command, eval_str=True)
        kept = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]

        @functools.wraps(command)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
            untyped = {name for name in names if kwargs.get(name) is None}
            given = {key: kwargs[key] for key in kwargs if key not in untyped}
            _require_choices(options, given)
            command(*args, **given)  # type: ignore[arg-type]

        parameters = [*kept, *flags]
        # Typer reads both.
        wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
        return wrapper

    return decorate


def _choices(option: "Field[Any]") -> tuple[str, ...]:
    words: tuple[str, ...] = option.metadata.get("choices", ())
    return words


def _metavar(option: "Field[Any]") -> str | None:
    return f"[{'|'.join(_choices(option))}]" if _choices(option) else None


def _require_choices(options: type[Any], given: Mapping[str, Any]) -> None:
    for each in fields(options):
        words, value = _choices(each), given.get(each.name)
        if words and value is not None and value not in words:
            known = ", ".join(words)
            raise XrayError(f"unknown {each.name} {value!r}, expected one of {known}")
