"""Templates whose addresses get the root path, without a filter that one could forget."""

import re
from collections.abc import Iterator
from typing import TypeVar

from jinja2.environment import Environment
from jinja2.exceptions import TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from app.core.addresses import root_path, rooted

# Attributes that hold an address; those for scripts end in "-url".
_OPENING = re.compile(r'\s(?:href|src|action|formaction|poster|data-(?:[a-z]+-)*url)="')


# Where the root path goes in a sentence with its values.
_ADDRESS = re.compile(r'(\s(?:href|src)=")([^"]+)')
_Text = TypeVar("_Text", bound=str)


class RootedAddresses(Extension):
    """Adds the root path to each attribute that holds an address.

    `href="/trust"` and `href="{{ item.url }}"` are compiled as if they were `href="{{ root_path()
    }}/trust"` and `href="{{ (item.url)|rooted }}"`. An attribute that begins with a statement or
    a relative path is refused, as the compiler cannot know what it becomes.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals["root_path"] = root_path
        environment.filters["rooted"] = rooted

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """The tokens of a template, with those that add the root path."""
        is_opened = is_inside = is_sentence = False
        before = None
        for token in stream:
            if before == "block_begin" and token.value in ("trans", "endtrans"):
                is_sentence = token.value == "trans"
            before = token.type
            if is_sentence:
                # A sentence to translate, whose addresses get the root path when it is shown.
                is_opened = False
                yield token
                continue
            if is_opened and token.type == "block_begin":
                raise _fault("An address begins with a statement", token, stream)
            if token.type == "data":
                yield from _with_root(token, stream)
            elif is_inside and token.type == "variable_end":
                is_inside = False
                yield from _tokens(token.lineno, ("rparen", ")"), ("pipe", "|"), ("name", "rooted"))
                yield token
            else:
                yield token
            if is_opened and token.type == "variable_begin":
                is_inside = True
                yield Token(token.lineno, "lparen", "(")
            is_opened = token.type == "data" and _opens(token.value)


def with_root(text: _Text) -> _Text:
    """A translated sentence, with the root path before each address of the application."""
    if not root_path():
        return text
    return type(text)(_ADDRESS.sub(lambda found: found[1] + rooted(found[2]), text))


def _opens(text: str) -> bool:
    """Whether a text ends where an address begins."""
    return any(found.end() == len(text) for found in _OPENING.finditer(text))


def _with_root(token: Token, stream: TokenStream) -> Iterator[Token]:
    """A text, with a call of `root_path` before each address of the application."""
    text, done = token.value, 0
    for found in _OPENING.finditer(text):
        address = text[found.end() :]
        if address.startswith("/") and not address.startswith("//"):
            yield Token(token.lineno, "data", text[done : found.end()])
            yield from _tokens(
                token.lineno,
                ("variable_begin", "{{"),
                ("name", "root_path"),
                ("lparen", "("),
                ("rparen", ")"),
                ("variable_end", "}}"),
            )
            done = found.end()
        elif address and not re.match(r"[#?\"]|https?://|//|data:|mailto:", address):
            raise _fault(f"The address {address.split(chr(34))[0]!r} is relative", token, stream)
    yield Token(token.lineno, "data", text[done:])


def _tokens(line: int, *pairs: tuple[str, str]) -> Iterator[Token]:
    return (Token(line, kind, value) for kind, value in pairs)


def _fault(what: str, token: Token, stream: TokenStream) -> TemplateSyntaxError:
    hint = f'{what}. Begin it with "/" or with an expression.'
    return TemplateSyntaxError(hint, token.lineno, stream.name, stream.filename)
