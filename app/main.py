"""The application: services, middleware, error handlers, routes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

import app.tables  # noqa: F401 - foreign keys lead across features
from app.accounts.admin_routes import router as users
from app.accounts.dependencies import current_user
from app.accounts.password_checks import PasswordChecks
from app.accounts.routes import router as accounts
from app.accounts.sign_in import SignInAttempts
from app.core.admission import CallerKind, Places
from app.core.compression import Compression
from app.core.database import Database
from app.core.error_pages import (
    answer_app_error,
    answer_database_error,
    answer_full_disk,
    answer_http_error,
    answer_unexpected_error,
    answer_validation_error,
    redirect_to_sign_in,
)
from app.core.errors import AppError, SignInNeeded
from app.core.fair_queue import FairQueue
from app.core.head_requests import HeadAsGet
from app.core.language import LANGUAGE_COOKIE, PageLanguage
from app.core.notifications import send_due
from app.core.rate_limit import RateLimits
from app.core.request_limits import RateLimitHeaders, RequestLimits
from app.core.request_log import RequestLog
from app.core.security import cookie_name
from app.core.security_headers import SecurityHeaders
from app.core.spool import SpoolRoom
from app.core.storage import Storage
from app.core.templating import STATIC
from app.datasets.imports import clear_ended_imports, remove_unused_uploads
from app.datasets.routes import router as datasets
from app.gallery.admin_routes import router as gallery_admin
from app.gallery.on_demand import Generators, pictures_limit
from app.gallery.on_demand_routes import router as on_demand
from app.gallery.routes import router as gallery
from app.monitoring.routes import router as monitoring
from app.monitoring.service import check_clinics
from app.quiz.rounds import rounds_limit
from app.quiz.routes import router as quiz
from app.registry.public_routes import router as public_models
from app.registry.routes import router as models
from app.registry.serving import ActiveClassifier
from app.runs.comparison_routes import router as run_comparison
from app.runs.routes import router as runs
from app.runs.schedule_routes import router as schedules
from app.runs.system_routes import router as system
from app.screenings.api import router as screening_api
from app.screenings.cleanup import remove_orphaned_images
from app.screenings.decoder import ImageDecoder
from app.screenings.dependencies import limited_key
from app.screenings.installation import require_one_installation
from app.screenings.quota import StorageQuota
from app.screenings.retention import remove_expired_screenings
from app.screenings.routes import router as screenings
from app.screenings.sample_routes import router as samples
from app.screenings.selection_routes import router as selection
from app.screenings.service import ScreeningService
from app.screenings.uploads import Intake, Pace
from app.services import Services
from app.settings import Settings
from app.site.api_reference import router as api_reference
from app.site.audit_routes import router as audit
from app.site.console import router as console
from app.site.health import router as health
from app.site.language_routes import router as language
from app.site.metrics import router as metrics
from app.site.openapi import Application
from app.validation.routes import router as validation
from ml.texts import msg

logger = logging.getLogger(__name__)
_CLEAN_UP_EVERY_S = 3600
_SEND_EVERY_S = 5
# Of a request without images. It is read before the sender is known.
_LARGEST_BODY = 1_000_000
DESCRIPTION = (
    "Send a chest X-ray and get the calibrated probability of each class that the active model "
    "distinguishes, and a decision: the predicted class, or uncertain when the model abstains. For "
    "research and education; not a medical device."
)


PAGES = (
    screenings,
    samples,
    selection,
    gallery,
    gallery_admin,
    on_demand,
    quiz,
    public_models,
    api_reference,
    accounts,
    language,
    console,
    datasets,
    models,
    run_comparison,
    validation,
    monitoring,
    runs,
    schedules,
    users,
    system,
    audit,
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; nothing is opened or started before its lifespan begins."""
    settings = settings or Settings()
    app = Application(
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
    app.add_middleware(
        SecurityHeaders, secure=settings.secure_cookies, trial_mode=settings.trial_mode
    )
    app.add_middleware(HeadAsGet)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.answered_hosts)
    app.add_middleware(RateLimitHeaders)
    app.add_middleware(PageLanguage, cookie=cookie_name(LANGUAGE_COOKIE, settings))
    app.add_middleware(Compression, secure=settings.secure_cookies)
    # Added last, so that it is outermost and sees every request.
    app.add_middleware(RequestLog)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for router in PAGES:
        app.include_router(router, dependencies=[Depends(current_user)])
    app.include_router(screening_api, dependencies=[Depends(limited_key)])
    for router in (health, metrics):
        app.include_router(router)
    app.add_exception_handler(SignInNeeded, redirect_to_sign_in)
    app.add_exception_handler(AppError, answer_app_error)
    app.add_exception_handler(OperationalError, answer_database_error)
    app.add_exception_handler(OSError, answer_full_disk)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(RequestValidationError, answer_validation_error)
    app.add_exception_handler(Exception, answer_unexpected_error)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    database = Database(settings.effective_database_url)
    storage = Storage.open(settings.effective_storage_url)
    require_one_installation(database, storage)
    services = _started_services(settings, database, storage)
    app.state.services = services
    stopping = asyncio.Event()
    cleaning = asyncio.create_task(_clean_up_regularly(database, storage, settings, stopping))
    sending = asyncio.create_task(_send_notifications(database, settings, stopping))
    try:
        yield
    finally:
        # What is in progress is waited for: it holds a connection.
        stopping.set()
        await cleaning
        services.password_checks.close()
        await sending
        services.classifier.close()
        services.decoder.close()
        database.close()


def _started_services(settings: Settings, database: Database, storage: Storage) -> Services:
    """Load the active classifier, start the decoder processes, and make the rest on them."""
    classifier = ActiveClassifier(settings, database)
    classifier.start()
    decoder = ImageDecoder(workers=settings.decoder_workers, timeout_s=settings.decode_timeout_s)
    decoder.start()
    limits = RateLimits(settings.effective_broker_url, settings.signing_key)
    return Services(
        settings=settings,
        database=database,
        storage=storage,
        decoder=decoder,
        classifier=classifier,
        screenings=ScreeningService(
            database=database,
            storage=storage,
            decoder=decoder,
            classifier=classifier,
            decoder_workers=settings.decoder_workers,
            wait_s=settings.decode_timeout_s,
            quota=StorageQuota.of(
                limits,
                min_free_mb=settings.min_free_mb,
                reserve_mb=settings.clinic_reserve_mb,
                visitor_mb=settings.visitor_quota_mb,
            ),
        ),
        intake=_intake(settings),
        turns=_turns(settings),
        request_limits=RequestLimits.of(
            limits,
            keys=settings.key_requests_per_minute,
            users=settings.user_uploads_per_minute,
            visitors=settings.visitor_uploads_per_minute,
        ),
        generators=Generators(pictures_limit(limits)),
        quiz_rounds=rounds_limit(limits),
        sign_in_attempts=SignInAttempts.of(limits),
        password_checks=PasswordChecks(),
    )


def _intake(settings: Settings) -> Intake:
    # No key takes all places of its kind.
    per_caller = dict.fromkeys(CallerKind, settings.max_forms_per_address)
    per_caller[CallerKind.KEY] = max(1, settings.max_forms_read * 3 // 4)
    return Intake(
        Places(settings.max_forms_read, per_caller),
        Pace(settings.upload_timeout_s, settings.min_upload_rate),
        SpoolRoom(),
        reserve_bytes=settings.clinic_reserve_mb * 1_000_000,
    )


def _turns(settings: Settings) -> FairQueue:
    return FairQueue(
        settings.max_in_flight,
        settings.max_queue_s,
        busy=msg("Too many images are being screened. Try again in a moment."),
    )


async def _send_notifications(
    database: Database, settings: Settings, stopping: asyncio.Event
) -> None:
    """Send what is due, until the server stops; nothing where no channel is configured."""
    if settings.channels:
        send = partial(send_due, database, settings)
        await _repeat("sending notifications", [send], _SEND_EVERY_S, stopping)


async def _clean_up_regularly(
    database: Database, storage: Storage, settings: Settings, stopping: asyncio.Event
) -> None:
    """Remove leftovers of crashes at the start and every hour, until the server stops."""
    steps: list[Callable[[], object]] = [
        partial(remove_expired_screenings, database, storage, settings.effective_visitor_days),
        partial(remove_orphaned_images, database, storage, trash_days=settings.trash_days),
        partial(remove_unused_uploads, database, settings),
        partial(clear_ended_imports, database, settings),
        partial(check_clinics, database, settings),
    ]
    await _repeat("clean-up", steps, _CLEAN_UP_EVERY_S, stopping)


async def _repeat(
    title: str, steps: Sequence[Callable[[], object]], every_s: float, stopping: asyncio.Event
) -> None:
    """Do steps one after the other at once and then regularly, each in a thread."""
    while not stopping.is_set():
        try:
            for step in steps:
                await asyncio.to_thread(step)
        except Exception:
            # An unreachable database or storage must not end the work for good.
            logger.exception("%s failed", title)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), every_s)
