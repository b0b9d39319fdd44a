"""English sentences that pages may show in another language.

A sentence is written once, in English, where it is needed. It stays an ordinary string: the API,
the command line and the log use it as it is. It remembers its template and its values, so that a
page can render it in the reader's language (`app.core.language.translated`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a sentence, rounded to some digits after the decimal separator."""

    value: float
    digits: int = 0

    def __str__(self) -> str:
        return f"{self.value:,.{self.digits}f}"


Value = str | int | Number
# A name, or the percent sign itself. Widths would let a template ask for endless blanks.
_PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%")


class Text(str):
    """A sentence in English that can be translated.

    Attributes:
        template: the sentence with placeholders such as %(name)s.
        many: the template for several of `count`; empty where the sentence counts nothing.
        values: what the placeholders stand for.
    """

    template: str
    many: str
    values: Mapping[str, Value]

    @classmethod
    def of(cls, template: str, many: str, values: Mapping[str, Value]) -> Self:
        """Fill a template in English. Without values, a percent sign is only that."""
        chosen = many if many and values["count"] != 1 else template
        shown = {name: _english(value) for name, value in values.items()}
        text = cls(chosen % shown if values else template)
        text.template, text.many, text.values = template, many, values
        return text

    def parts(self) -> dict[str, str | dict[str, str]]:
        """The template and its values as JSON, for another process."""
        return {
            "template": self.template,
            "values": {name: _english(value) for name, value in self.values.items()},
        }

    @classmethod
    def read(cls, template: str, values: Mapping[str, str]) -> Self:
        """A sentence by its parts, from somebody who is not trusted.

        Raises:
            ValueError: the template has other placeholders than plain ones of its values.
        """
        if "%" in _PLACEHOLDER.sub("", template) and values:
            raise ValueError("a template has a placeholder that is not plain")
        if not set(_PLACEHOLDER.findall(template)) - {""} <= set(values):
            raise ValueError("a template has a placeholder without a value")
        return cls.of(template, "", values)


def msg(template: str, /, **values: Value) -> str:
    """A sentence that pages translate, as in `msg("There is no file %(name)s.", name=name)`.

    Whole numbers get separators of thousands; give those that are names, as seeds, as text.
    """
    return Text.of(template, "", values)


def plural(one: str, many: str, /, count: int, **values: Value) -> str:
    """A sentence for one and one for several, as `plural("one image", "%(count)s images", 3)`."""
    return Text.of(one, many, {"count": count, **values})


def _english(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
