"""Logging of the web process, the worker and the command line: structlog over the standard library.

Every logger of the program and its libraries writes through one handler: JSON lines for machines,
readable lines for a terminal. The context of a request, such as its id, is on every line.
"""

import logging
import sys
from collections.abc import Sequence

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.settings import LogFormat, Settings


def configure_logging(settings: Settings | None = None) -> None:
    """Send all log records to standard error, in the format and from the level of the settings.

    Without settings, as for a short command, warnings and errors as text.
    """
    level = settings.log_level.value if settings else "WARNING"
    line_format = settings.effective_log_format if settings else LogFormat.TEXT
    shared: Sequence[Processor] = (
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _drop_color_message,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(line_format),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    for name in ("uvicorn", "uvicorn.error"):
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True
    # It names every one of its parts and steps; `app.migrations` says what they came to.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # One line per request comes from `app.core.request_log`, without addresses and query strings.
    logging.getLogger("uvicorn.access").disabled = True


def _renderers(line_format: LogFormat) -> list[Processor]:
    # Tracebacks without the values of variables, which may be personal.
    if line_format is LogFormat.JSON:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    colors = sys.stderr.isatty()
    return [
        _drop_timestamp_date,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain, sort_keys=False),
    ]


def _drop_color_message(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Uvicorn adds its message a second time, with the colours of a terminal."""
    event.pop("color_message", None)
    return event


def _drop_timestamp_date(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Seconds are enough on a terminal."""
    event["timestamp"] = str(event["timestamp"])[:19] + "Z"
    return event
