"""Every refusal of an image is sentences: what is wrong, then what to do."""

import ast
from pathlib import Path

import pytest

import ml.imaging

ERRORS = {"UnreadableImage", "BlankImage"}
MODULES = sorted(Path(ml.imaging.__path__[0]).glob("*.py"))


def messages(module: Path) -> list[str]:
    """The first arguments of the errors that a module makes, their values as "0"."""
    return [
        "".join(part.value if isinstance(part, ast.Constant) else "0" for part in parts)
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ERRORS
        for argument in node.args[:1]
        if (parts := argument.values if isinstance(argument, ast.JoinedStr) else [argument])
        and all(isinstance(part, ast.Constant | ast.FormattedValue) for part in parts)
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_errors_are_sentences(module: Path) -> None:
    for message in messages(module):
        assert message[0].isupper(), message
        assert message.endswith("."), message
        assert ". " in message, f"what to do is missing: {message}"


def test_errors_are_found() -> None:
    assert sum(len(messages(module)) for module in MODULES) > 15
