"""Command-line flags made of an options dataclass: an option is defined once, with its help.

A field's metadata says what a person is told (`help`) and the range it must lie in (`min`, `max`).
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, ParamSpec, get_type_hints

import typer

P = ParamSpec("P")


def with_flags(
    options: type[Any], *, panel: str, show_defaults: bool = True
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Give a command a flag for every field of a dataclass.

    The command takes them as `**given: Any`: those that were typed, by the field's name, and no
    others, so that `dataclasses.replace(preset, **given)` keeps the preset's value for the rest.
    A truth value becomes the two flags `--name` and `--no-name`.

    Args:
        options: a dataclass whose fields have `help`, `min` and `max` in their metadata.
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
                    show_default=str(each.default) if show_defaults else False,
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
            command(*args, **{key: kwargs[key] for key in kwargs if key not in untyped})  # type: ignore[arg-type]

        parameters = [*kept, *flags]
        # Typer reads both.
        wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
        return wrapper

    return decorate
