"""A public class or function has a name that no other module gives to something else."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Starting points of programs are called so everywhere.
SHARED = {"main"}


def public_names(module: Path) -> list[str]:
    """The public classes and functions of a module, without the handlers of routes.

    Nobody calls a handler by its name: the path in its decorator says what it answers.
    """
    return [
        node.name
        for node in ast.parse(module.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not any(ast.unparse(each).startswith("router.") for each in node.decorator_list)
    ]


def test_no_public_name_stands_for_two_things() -> None:
    modules = defaultdict(list)
    for package in ("app", "ml"):
        for module in sorted((ROOT / package).rglob("*.py")):
            # Every migration has an upgrade.
            if module.parent.name == "versions":
                continue
            for name in public_names(module):
                modules[name].append(str(module.relative_to(ROOT)))
    twice = {name: found for name, found in modules.items() if len(set(found)) > 1}
    assert {name: twice[name] for name in twice.keys() - SHARED} == {}
    assert len(modules) > 500
