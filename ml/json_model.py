"""Base of the typed contracts: everything that crosses a file or a JSON column.

A contract is checked once, where it enters: `from_json` and `from_values` read it, and whatever is
missing, unknown or of another type becomes one clear error. From then on its fields are typed.
"""

import json
import math
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    PlainSerializer,
    ValidationError,
)

from ml.errors import XrayError
from ml.legacy import rename_keys

MAX_FAULTS_SHOWN = 5
_MAX_VALUE_LENGTH = 40
_EXPECTED = {
    "bool_type": "true or false",
    "dataclass_type": "an object",
    "dict_type": "an object",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a text",
}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


class InvalidJson(XrayError):
    """JSON that does not fit its contract; the message names every field that is wrong."""


def _nan_of_null(value: object) -> object:
    return math.nan if value is None else value


def _null_of_nan(value: float) -> float | None:
    return value if math.isfinite(value) else None


JsonObject = dict[str, JsonValue]
# JSON has no NaN: a metric that is not defined is NaN in Python and null in a file.
JsonFloat = Annotated[
    float,
    BeforeValidator(_nan_of_null),
    PlainSerializer(_null_of_nan, return_type=float | None, when_used="json"),
]


class JsonModel(BaseModel):
    """A contract: immutable, strict about types, without unknown fields."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read JSON text; keys of version 0.1.0 are understood.

        Raises:
            InvalidJson: it is not JSON, or does not fit the contract.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise InvalidJson(f"it is not JSON ({problem})") from problem
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: object) -> Self:
        """Read JSON values, such as those of a column; keys of version 0.1.0 are understood.

        Raises:
            InvalidJson: they do not fit the contract.
        """
        try:
            # As text: pydantic is stricter with Python objects, and would refuse nested ones.
            return cls.model_validate_json(json.dumps(rename_keys(values)))
        except ValidationError as problem:
            raise InvalidJson(describe_faults(problem)) from problem
        except (TypeError, ValueError, RecursionError) as problem:
            raise InvalidJson(f"it is not JSON ({problem})") from problem

    def as_json(self) -> dict[str, JsonValue]:
        """The contract as JSON values; a number that is not finite becomes null."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """The contract as indented JSON text, with a line break at its end."""
        return json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n"


def describe_faults(problem: ValidationError) -> str:
    """The faults that pydantic found, as one line: `options.size is True, expected ...`."""
    faults = [_describe_fault(fault) for fault in problem.errors(include_url=False)]
    more = len(faults) - MAX_FAULTS_SHOWN
    return "; ".join(faults[:MAX_FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _describe_fault(fault: Any) -> str:
    # A tag in brackets names the member of a union, which is no part of the file.
    steps = [str(step) for step in fault["loc"]]
    where = ".".join(step for step in steps if not step.startswith("<")) or "it"
    kind = fault["type"]
    if kind == "missing":
        return f"{where} is missing"
    if kind in _UNKNOWN:
        return f"{where} is not known"
    shown = repr(fault["input"])
    if len(shown) > _MAX_VALUE_LENGTH:
        shown = f"{shown[:_MAX_VALUE_LENGTH]}..."
    if kind == "value_error":
        return str(fault["ctx"]["error"])
    if kind in _EXPECTED:
        return f"{where} is {shown}, expected {_EXPECTED[kind]}"
    return f"{where} is {shown}: {fault['msg']}"


def finite(value: Any) -> Any:
    """Replace NaN and infinity by None, at every depth of JSON values."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
    return value
