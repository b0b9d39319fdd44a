"""Rendering templates."""

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from jinja2 import pass_eval_context
from jinja2.nodes import EvalContext
from markupsafe import Markup

from app.core.amounts import about, size
from app.core.language import (
    capital,
    catalogue,
    current_language,
    language_headers,
    languages,
    localised,
    localised_metric,
    number,
    percent_text,
    timestamp,
    translated,
    translated_list,
)
from app.core.rooted_templates import RootedAddresses, with_root
from ml.texts import Number, Text, Value

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


def _shown(value: object) -> object:
    """A value that a template prints: sentences of the code are translated."""
    return translated(value) if isinstance(value, Text) else value


@pass_eval_context
def _gettext(evaluation: EvalContext, template: str, /, **values: Value) -> str:
    """A sentence of a template in the reader's language, with its values."""
    text = catalogue(current_language()).gettext(template)
    return _filled(evaluation, text, values)


@pass_eval_context
def _ngettext(evaluation: EvalContext, one: str, many: str, count: int, /, **values: Value) -> str:
    """A sentence of a template that depends on a count."""
    text = catalogue(current_language()).ngettext(one, many, count)
    return _filled(evaluation, text, {"num": count, **values})


def _filled(evaluation: EvalContext, text: str, values: dict[str, Value]) -> str:
    """The template is trusted, as the rest of the page is; its values are escaped."""
    shown = {name: _value(value) for name, value in values.items()}
    return with_root((Markup(text) if evaluation.autoescape else text) % shown)  # noqa: S704


def _value(value: object) -> object:
    return localised(value) if isinstance(value, (Text, Number, int)) else value


_templates.env.add_extension(RootedAddresses)
_templates.env.add_extension("jinja2.ext.i18n")
_templates.env.policies["ext.i18n.trimmed"] = True
# Our functions take the values, so that these are written as the language writes them.
_templates.env.newstyle_gettext = True  # type: ignore[attr-defined]
_templates.env.finalize = _shown
_templates.env.filters.update(
    about=about,
    size=size,
    capital=capital,
    measured=localised_metric,
    number=number,
    percent=percent_text,
    timestamp=timestamp,
    translated=translated,
    translated_list=translated_list,
)
_templates.env.globals.update(
    _=_gettext,
    gettext=_gettext,
    ngettext=_ngettext,
    asset=asset,
    current_language=current_language,
    languages=languages,
    product_name=PRODUCT_NAME,
    version=version("xray-screening"),
)


def page(
    request: Request, template: str, status: HTTPStatus = HTTPStatus.OK, **context: Any
) -> HTMLResponse:
    """Render a template; `user` in it is who is signed in, `trial_mode` the setting."""
    context.setdefault("user", getattr(request.state, "user", None))
    context.setdefault("this_page", _address_of(request))
    context.setdefault("trial_mode", request.app.state.settings.trial_mode)
    return _templates.TemplateResponse(
        request, template, context, status_code=status, headers=language_headers()
    )


def _address_of(request: Request) -> str:
    """Where the switch of the language leads back to; the start page after a form was sent."""
    if request.method != "GET":
        return "/"
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


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
        more: a further sentence, where there is one.
    """

    room: str
    title: str
    text: str
    action: str
    button: str
    back: str
    more: str = ""


def confirm(request: Request, question: Confirmation) -> HTMLResponse:
    """A page of the console that asks a question."""
    return page(request, "layout/confirm.html", **asdict(question))
