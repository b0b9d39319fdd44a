"""What the fields of an options class say about themselves: the source of flags, forms and checks.

An options class is a pydantic dataclass (`ml.options`). The type of a field says which values it
takes, its `Field` the range and the texts for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, cast, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import TypeAdapter, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from ml.errors import XrayError

Options = TypeVar("Options")
OptionValue = str | int | float | bool
# Passed as `json_schema_extra`: options that most people change, the others fold away.
BASIC: Final[JsonDict] = {"basic": True}
# Passed as `json_schema_extra`: options that no form asks for.
HIDDEN: Final[JsonDict] = {"hidden": True}
_WORDS = {int: "a whole number", float: "a number", bool: "yes or no", str: "a text"}


class InvalidOptions(XrayError):
    """Options outside of what their class allows; `faults` holds a sentence for each, by name."""

    def __init__(self, faults: Mapping[str, str]):
        super().__init__(" ".join(f"{name}: {fault}" for name, fault in faults.items()))
        self.faults = dict(faults)


@dataclass(frozen=True, slots=True)
class OptionField:
    """One option.

    Attributes:
        name: of the field.
        type: int, float, bool or str.
        default: its value where none is given.
        title: its label for people.
        help: what it means, in a sentence.
        low: the least number; None: any.
        high: the greatest number; None: any.
        choices: the texts it may be; empty: any.
        is_basic: whether most people change it.
        is_hidden: whether forms leave it out.
        flag: its name on the command line.
    """

    name: str
    type: type[OptionValue]
    default: OptionValue
    title: str
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    is_basic: bool = False
    is_hidden: bool = False
    flag: str = ""

    @property
    def expected(self) -> str:
        """What a value should be: "a whole number from 16 to 512"."""
        if self.choices:
            return "one of " + ", ".join(choice or "nothing" for choice in self.choices)
        word = _WORDS[self.type]
        if self.low is not None and self.high is not None:
            return f"{word} from {self.low:g} to {self.high:g}"
        if self.low is not None:
            return f"{word} of {self.low:g} or more"
        return word if self.high is None else f"{word} of {self.high:g} or less"


def option_fields(options: type[Any]) -> tuple[OptionField, ...]:
    """The options of a class, in their order."""
    found: dict[str, FieldInfo] = options.__pydantic_fields__
    return tuple(_option_field(name, each) for name, each in found.items())


def _option_field(name: str, info: FieldInfo) -> OptionField:
    choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return OptionField(
        name=name,
        type=str if choices else cast("type[OptionValue]", info.annotation),
        default=info.default,
        title=info.title or option_title(name),
        help=info.description or "",
        low=next((each.ge for each in info.metadata if isinstance(each, Ge)), None),  # type: ignore[arg-type]
        high=next((each.le for each in info.metadata if isinstance(each, Le)), None),  # type: ignore[arg-type]
        choices=choices,
        is_basic=extra.get("basic") is True,
        is_hidden=extra.get("hidden") is True,
        flag=str(extra.get("flag", name)).replace("_", "-"),
    )


def option_title(name: str) -> str:
    """batch_size -> Batch size."""
    text = name.replace("_", " ").replace("ema ", "EMA ")
    return text[:1].upper() + text[1:]


def option_values(options: object) -> dict[str, OptionValue]:
    """The value of each option, by name, as JSON holds it."""
    return {each.name: getattr(options, each.name) for each in option_fields(type(options))}


def validated_options(
    options: type[Options], given: Mapping[str, object], base: Options | None = None
) -> Options:
    """Options of a class made of values by name; texts become the numbers they say.

    Args:
        options: the class.
        given: the values; the others are those of `base`.
        base: a preset, by default the defaults of the class.

    Raises:
        InvalidOptions: with a fault for every value that is not allowed.
    """
    values = (option_values(base) if base is not None else {}) | dict(given)
    try:
        # Lax also where the class is strict: forms and command lines send texts.
        return TypeAdapter(options).validate_python(values, strict=False)
    except ValidationError as problem:
        names = {str(error["loc"][0]) for error in problem.errors() if error["loc"]}
        raise InvalidOptions(_faults(options, values, names)) from None


def _faults(options: type[Any], values: Mapping[str, object], names: set[str]) -> dict[str, str]:
    known = {each.name: each for each in option_fields(options)}
    faults = {
        name: f"Expected {each.expected}, got {values.get(name)!r}."
        for name, each in known.items()
        if name in names
    }
    for name in sorted(names - known.keys()):
        faults[name] = f"Unknown option. Expected one of {', '.join(sorted(known))}."
    return faults
