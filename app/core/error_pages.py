"""Error handlers: a page for browsers, `application/problem+json` for API clients."""

import logging
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from app.core.disk_full import is_disk_full, storage_full
from app.core.errors import AppError, Busy, InvalidForm, NotFound
from app.core.language import language_headers, translated
from app.core.request_log import REQUEST_ID_HEADER
from app.core.security_headers import HEADERS
from app.core.templating import page
from ml.texts import msg

# Of errors that people meet; others have the English phrase of the standard.
_TITLES = {404: msg("Not found"), 405: msg("Method not allowed"), 413: msg("Too large")}
logger = logging.getLogger(__name__)


def _wants_json(request: Request) -> bool:
    return request.url.path.startswith("/api/") or "application/json" in request.headers.get(
        "accept", ""
    )


def _answer(
    request: Request, status: int, title: str, detail: str, code: str, headers: dict[str, str]
) -> Response:
    if _wants_json(request):
        return _problem(request, status, title, detail, code, headers)
    response = page(
        request,
        "layout/error.html",
        HTTPStatus(status),
        status_code=status,
        title=title,
        detail=detail,
        request_id=_request_id(request),
    )
    response.headers.update(headers)
    return response


def _problem(
    request: Request, status: int, title: str, detail: str, code: str, headers: dict[str, str]
) -> JSONResponse:
    """An error for programs (RFC 9457); `code` and `request_id` are extensions."""
    content = {
        "type": "about:blank",
        "title": translated(title),
        "status": status,
        "detail": translated(detail),
        "code": code,
        "request_id": _request_id(request),
    }
    # The scripts of pages show it; the API answers in English alone.
    if not request.url.path.startswith("/api/"):
        headers = language_headers() | headers
    return JSONResponse(content, status, headers=headers, media_type="application/problem+json")


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


async def answer_app_error(request: Request, error: Exception) -> Response:
    """Answer an error of the application with its status."""
    assert isinstance(error, AppError)
    detail = error.detail
    if isinstance(error, InvalidForm):
        faults = error.faults.items()
        detail = "; ".join(f"{name}: {translated(fault).rstrip('.')}" for name, fault in faults)
    return _answer(request, error.status, error.title, detail, error.code, error.headers)


async def redirect_to_sign_in(request: Request, error: Exception) -> Response:
    """Send a browser to the sign-in page and back; answer an API client with 401."""
    if _wants_json(request):
        return await answer_app_error(request, error)
    wanted = request.url.path if request.method == "GET" else "/"
    return RedirectResponse(f"/sign-in?{urlencode({'next': wanted})}", HTTPStatus.SEE_OTHER)


async def answer_database_error(request: Request, error: Exception) -> Response:
    """Answer 503: the database cannot be reached; or 507: its disk is full."""
    if is_disk_full(error):
        return await answer_full_disk(request, error)
    logger.error("the database cannot be reached: %s", error)
    away = Busy(msg("The database cannot be reached. Try again in a moment."), retry_after_s=5)
    return await answer_app_error(request, away)


async def answer_full_disk(request: Request, error: Exception) -> Response:
    """Answer 507 where a file could not be written for want of room."""
    if not is_disk_full(error):
        raise error
    logger.error("the disk is full: %s", error)
    return await answer_app_error(request, storage_full())


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer an error of the framework, such as 404 for an unknown address."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    title = _TITLES.get(error.status_code, phrase.capitalize())
    detail = msg("There is no page at this address.") if error.status_code == 404 else error.detail
    code = phrase.lower().replace(" ", "-")
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # That of the framework names the methods of one route, and an address may have several.
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return _answer(request, error.status_code, title, detail, code, headers)


def _allowed_methods(request: Request) -> list[str]:
    """The methods that some route has for the address of a request."""
    methods: set[str] = set()
    for route in each_route(request.app.routes):
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


def each_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes themselves, also of routers that were included as they are."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from each_route(included.routes)


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """Answer 422 with the fields that are not valid."""
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()
    )
    # A path with a malformed id is the path of nothing.
    if any(fault["loc"][0] == "path" for fault in error.errors()):
        return await answer_app_error(request, NotFound(msg("There is no page at this address.")))
    return _answer(request, 422, msg("The request is not valid"), faults, "invalid-request", {})


async def answer_unexpected_error(request: Request, _error: Exception) -> Response:
    """Answer 500; the server logs the traceback."""
    detail = msg("The error was logged. Check your history before you try again.")
    # This response does not pass through the middleware that sets headers.
    headers = HEADERS | {REQUEST_ID_HEADER: _request_id(request)}
    return _answer(request, 500, msg("Something went wrong"), detail, "internal", headers)
