"""Changing what a running application shares between requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI


@contextmanager
def changed_services(app: FastAPI, **changes: Any) -> Iterator[None]:
    """Exchange some services of an application for a while."""
    before = app.state.services
    app.state.services = replace(before, **changes)
    try:
        yield
    finally:
        app.state.services = before
