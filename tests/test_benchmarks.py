"""The benchmarks can be started: whatever they import is there."""

import importlib
from pathlib import Path

import pytest

import benchmarks

NAMES = sorted(path.stem for path in Path(str(benchmarks.__file__)).parent.glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_is_imported(name: str) -> None:
    assert vars(importlib.import_module(f"benchmarks.{name}"))["__doc__"]
