"""Imports run one way: no circles, and pages are read by their own feature alone."""

import re
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """What each module imports."""
    graph = grimp.build_graph("app", "ml", exclude_type_checking_imports=True)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_no_module_imports_itself_through_others(imports: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as circle:
        pytest.fail(f"imports go round in a circle: {' -> '.join(circle.args[1])}")


def test_no_feature_imports_the_pages_of_another(imports: dict[str, set[str]]) -> None:
    strangers = [
        f"{module} imports {page}"
        for module, imported in imports.items()
        for page in imported
        if page.startswith("app.") and re.search(r"[._](views|routes)$", page)
        if module.split(".")[:2] != page.split(".")[:2]
        if module != "app.main"
    ]
    assert strangers == []
