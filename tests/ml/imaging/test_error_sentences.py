"""Every refusal of an image is sentences: what is wrong, then what to do."""

import ast
from pathlib import Path

import pytest

import ml.imaging

ERRORS = {"UnreadableImage", "BlankImage"}
MODULES = sorted(Path(ml.imaging.__path__[0]).glob("*.py"))


def messages(module: Path) -> list[str]:
    """The sentences of the errors that a module makes, as they are written there."""
    calls = [
        node
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and node.args
    ]
    sentences = [call.args[0] for call in calls if ast.unparse(call.func) in ERRORS]
    # A sentence with values is a template of `ml.texts`.
    texts = [
        one.args[0] if isinstance(one, ast.Call) and ast.unparse(one.func) == "msg" else one
        for one in sentences
    ]
    return [str(text.value) for text in texts if isinstance(text, ast.Constant)]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_errors_are_sentences(module: Path) -> None:
    for message in messages(module):
        assert message[0].isupper(), message
        assert message.endswith("."), message
        assert ". " in message, f"what to do is missing: {message}"


def test_errors_are_found() -> None:
    assert sum(len(messages(module)) for module in MODULES) > 15
