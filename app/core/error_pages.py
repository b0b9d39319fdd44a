"""Error handlers: a page for browsers, `application/problem+json` for API clients."""

import logging
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from app.core.errors import AppError, Busy, NotFound
from app.core.security_headers import HEADERS
from app.core.templating import page

logger = logging.getLogger(__name__)


def _wants_json(request: Request) -> bool:
    return request.url.path.startswith("/api/") or "application/json" in request.headers.get(
        "accept", ""
    )


def problem(
    status: int, title: str, detail: str, code: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An error for programs (RFC 9457)."""
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code},
        status,
        headers=headers,
        media_type="application/problem+json",
    )


def _answer(
    request: Request, status: int, title: str, detail: str, code: str, headers: dict[str, str]
) -> Response:
    if _wants_json(request):
        return problem(status, title, detail, code, headers)
    response = page(
        request,
        "layout/error.html",
        HTTPStatus(status),
        status_code=status,
        title=title,
        detail=detail,
    )
    response.headers.update(headers)
    return response


async def answer_app_error(request: Request, error: Exception) -> Response:
    """Answer one of our own errors with its status."""
    assert isinstance(error, AppError)
    return _answer(request, error.status, error.title, error.detail, error.code, error.headers)


async def redirect_to_sign_in(request: Request, error: Exception) -> Response:
    """Send a browser to the sign-in page and back; tell an API client."""
    if _wants_json(request):
        return await answer_app_error(request, error)
    wanted = request.url.path if request.method == "GET" else "/"
    return RedirectResponse(f"/sign-in?{urlencode({'next': wanted})}", HTTPStatus.SEE_OTHER)


async def answer_database_error(request: Request, error: Exception) -> Response:
    """Answer that the database cannot be reached at the moment."""
    logger.error("the database does not answer: %s", error)
    away = Busy("the records cannot be reached: try again in a moment", retry_after_s=5)
    return await answer_app_error(request, away)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer what the framework refused."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    detail = "There is nothing at this address." if error.status_code == 404 else error.detail
    code = phrase.lower().replace(" ", "-")
    return _answer(request, error.status_code, phrase, detail, code, dict(error.headers or {}))


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """Answer which fields of the request are wrong."""
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()
    )
    # An address that cannot be an id is an address of nothing.
    if any(fault["loc"][0] == "path" for fault in error.errors()):
        return await answer_app_error(request, NotFound("there is nothing at this address"))
    return _answer(request, 422, "The request is not valid", faults, "invalid-request", {})


async def answer_unexpected_error(request: Request, _error: Exception) -> Response:
    """Answer 500; the traceback goes to the log."""
    detail = "The fault is ours and was written to the log. See your history before trying again."
    # The server answers this one outside of all middleware.
    return _answer(request, 500, "Something went wrong", detail, "internal", HEADERS)
