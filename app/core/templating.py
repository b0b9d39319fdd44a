"""Rendering templates."""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

from app.core.rooted_templates import RootedAddresses

_APP = Path(__file__).resolve().parents[1]
# In a wheel the pages lie in the package, in a checkout beside it.
_PAGES = _APP if (_APP / "templates").is_dir() else _APP.parent
STATIC = _PAGES / "static"
PRODUCT_NAME = "Xray Screening"
_templates = Jinja2Templates(directory=_PAGES / "templates")


@cache
def asset(name: str) -> str:
    """The address of a static file; it changes with the content, so it may be cached for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def timestamp(moment: datetime) -> str:
    """A time for people: 22 Nov 2026, 18:22 UTC."""
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


_templates.env.add_extension(RootedAddresses)
_templates.env.filters["timestamp"] = timestamp

_templates.env.globals.update(
    asset=asset, product_name=PRODUCT_NAME, version=version("xray-screening")
)


def page(
    request: Request, template: str, status: HTTPStatus = HTTPStatus.OK, **context: Any
) -> HTMLResponse:
    """Render a template; `user` in it is who is signed in, `trial_mode` the setting."""
    context.setdefault("user", getattr(request.state, "user", None))
    context.setdefault("trial_mode", request.app.state.settings.trial_mode)
    return _templates.TemplateResponse(request, template, context, status_code=status)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A question before something that cannot be undone.

    Attributes:
        room: the tab of the console.
        title: the question.
        text: what will happen.
        action: the address that the button posts to.
        button: what it says, a verb.
        back: the page to return to.
    """

    room: str
    title: str
    text: str
    action: str
    button: str
    back: str


def confirm(request: Request, question: Confirmation) -> HTMLResponse:
    """A page of the console that asks a question."""
    return page(request, "layout/confirm.html", **asdict(question))
