"""A function takes few parameters and reads as one paragraph; a module fits a reader's head."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_PARAMETERS = 8
MOST_LINES = 40  # of a function, without its docstring
LONGEST_MODULE = 430  # the settings: one field after the other
# Migrations are history: one function makes all the tables of a version.
MODULES = [
    module
    for package in ("app", "ml")
    for module in sorted((ROOT / package).rglob("*.py"))
    if module.parent.name != "versions"
]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    """All functions and methods, with the place of each."""
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                yield f"{module.relative_to(ROOT)}:{node.lineno} {node.name}", node


def parameter_count(function: Function) -> int:
    """The parameters of a function, `*args` and `**kwargs` included, without self and cls."""
    named = function.args
    names = [each.arg for each in (*named.posonlyargs, *named.args, *named.kwonlyargs)]
    starred = [each for each in (named.vararg, named.kwarg) if each is not None]
    return len([name for name in names if name not in ("self", "cls")]) + len(starred)


def line_count(function: Function) -> int:
    """The lines of a function's body after its docstring."""
    body = function.body
    if ast.get_docstring(function) is not None and len(body) > 1:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_functions_take_few_parameters() -> None:
    many = {place: parameter_count(each) for place, each in functions()}
    assert len(many) > 2000
    assert {place: count for place, count in many.items() if count > MOST_PARAMETERS} == {}


def test_functions_read_as_one_paragraph() -> None:
    lines = {place: line_count(each) for place, each in functions()}
    assert {place: count for place, count in lines.items() if count > MOST_LINES} == {}


def test_modules_are_short() -> None:
    lines = {
        str(module.relative_to(ROOT)): len(module.read_text(encoding="utf-8").splitlines())
        for module in MODULES
    }
    assert {module: count for module, count in lines.items() if count > LONGEST_MODULE} == {}
