"""The application: services, middleware, error handlers, routes."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from importlib.metadata import version
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from app.db import Database
from app.decoding import FilmDecoder
from app.deps import Services, current_user
from app.errors import AppError, Busy, NotFound, SignInNeeded
from app.headers import HEADERS, SecurityHeaders
from app.imports import clear_ended_imports, remove_unused_uploads
from app.inference import ActiveClassifier
from app.pages import STATIC, page
from app.routes import (
    admin,
    admin_data,
    admin_models,
    admin_runs,
    admin_schedules,
    admin_users,
    api,
    auth,
    gallery,
    health,
    quiz,
    screenings,
    site,
)
from app.screening import Screener
from app.settings import Settings
from app.storage import Storage
from app.sweep import sweep
from app.uploads import Intake

logger = logging.getLogger(__name__)

_SWEEP_EVERY_S = 3600
# Of a request without films. It is read before anybody asks who sends it.
_LARGEST_BODY = 1_000_000

DESCRIPTION = (
    "Send a chest X-ray film, get COVID-19, pneumonia or normal with calibrated probabilities, "
    "or the word that the model does not know. Research and education; not a medical device."
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; nothing is opened or started before its lifespan begins."""
    settings = settings or Settings()
    app = FastAPI(
        title="Xray Screening",
        version=version("xray-screening"),
        description=DESCRIPTION,
        lifespan=_lifespan,
        openapi_url="/api/v1/openapi.json",
        # The reference page is our own: the usual ones load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        max_body_size=_LARGEST_BODY,
    )
    app.state.settings = settings
    app.add_middleware(SecurityHeaders, secure=settings.secure_cookies)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.answered_hosts)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for pages in (
        screenings,
        gallery,
        quiz,
        site,
        auth,
        admin,
        admin_data,
        admin_models,
        admin_runs,
        admin_schedules,
        admin_users,
    ):
        app.include_router(pages.router, dependencies=[Depends(current_user)])
    for family in (api, health):
        app.include_router(family.router)
    app.add_exception_handler(SignInNeeded, _sign_in_needed)
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(OperationalError, _database_away)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unexpected_error)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    database = Database(settings.effective_database_url)
    storage = Storage.open(settings.effective_storage_url)
    classifier = ActiveClassifier(settings, database)
    classifier.start()
    decoder = FilmDecoder(workers=settings.decoder_workers, timeout_s=settings.decode_timeout_s)
    decoder.start()
    app.state.services = Services(
        settings=settings,
        database=database,
        storage=storage,
        decoder=decoder,
        classifier=classifier,
        screener=Screener(
            database=database,
            storage=storage,
            decoder=decoder,
            classifier=classifier,
            decoder_workers=settings.decoder_workers,
            max_in_flight=settings.max_in_flight,
            wait_s=settings.decode_timeout_s,
            min_free_bytes=settings.min_free_mb * 1_000_000,
        ),
        intake=Intake(settings.max_forms_read, settings.upload_timeout_s),
    )
    stopping = asyncio.Event()
    sweeping = asyncio.create_task(_sweep_regularly(database, storage, settings, stopping))
    try:
        yield
    finally:
        # The one in hand is waited for: it holds a connection.
        stopping.set()
        await sweeping
        classifier.close()
        decoder.close()
        database.close()


async def _sweep_regularly(
    database: Database, storage: Storage, settings: Settings, stopping: asyncio.Event
) -> None:
    """Remove what crashes left behind, at the start and every hour, until the server stops."""
    while not stopping.is_set():
        try:
            await asyncio.to_thread(sweep, database, storage)
            await asyncio.to_thread(remove_unused_uploads, database, settings)
            await asyncio.to_thread(clear_ended_imports, database, settings)
        except Exception:
            # A database or storage that is away for a while must not end the sweeping.
            logger.exception("sweeping failed")
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _SWEEP_EVERY_S)


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
        request, "error.html", HTTPStatus(status), status_code=status, title=title, detail=detail
    )
    response.headers.update(headers)
    return response


async def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return _answer(request, error.status, error.title, error.detail, error.code, error.headers)


async def _sign_in_needed(request: Request, error: Exception) -> Response:
    if _wants_json(request):
        return await _app_error(request, error)
    wanted = request.url.path if request.method == "GET" else "/"
    return RedirectResponse(f"/sign-in?{urlencode({'next': wanted})}", HTTPStatus.SEE_OTHER)


async def _database_away(request: Request, error: Exception) -> Response:
    logger.error("the database does not answer: %s", error)
    away = Busy("the records cannot be reached: try again in a moment", retry_after_s=5)
    return await _app_error(request, away)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    detail = "There is nothing at this address." if error.status_code == 404 else error.detail
    code = phrase.lower().replace(" ", "-")
    return _answer(request, error.status_code, phrase, detail, code, dict(error.headers or {}))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()
    )
    # An address that cannot be an id is an address of nothing.
    if any(fault["loc"][0] == "path" for fault in error.errors()):
        return await _app_error(request, NotFound("there is nothing at this address"))
    return _answer(request, 422, "The request is not valid", faults, "invalid-request", {})


async def _unexpected_error(request: Request, _error: Exception) -> Response:
    detail = "The fault is ours and was written to the log. See your history before trying again."
    # The server answers this one outside of all middleware.
    return _answer(request, 500, "Something went wrong", detail, "internal", HEADERS)
