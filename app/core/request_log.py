"""One log line and one measurement per request, and the request's id."""

import logging
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.metrics import HTTP_REQUESTS, HTTP_SECONDS

REQUEST_ID_HEADER = "X-Request-ID"
logger = logging.getLogger("app.access")
# What a proxy may send as an id: nothing that could forge a log line or fill the log.
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_UNMATCHED = "(none)"
# Probes and files of pages would drown the rest.
_QUIET = {"/livez", "/readyz", "/metrics", "/static"}


class RequestLog:
    """Gives each request an id, logs it and counts it.

    The id is taken from the header X-Request-ID where that is well-formed, and made otherwise. It
    is in the response's header, on every log line of the request, and in `request.state`. The line
    names the route's template, never the path, the query string or the address: those may be
    personal.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        record = _Record(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = request_id
                record.status = message["status"]
                record.is_stream = headers.get("content-type", "").startswith("text/event-stream")
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            record.write()


class _Record:
    """What is noted of one request."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._start = time.perf_counter()
        # Where nothing was sent, the server answers 500.
        self.status = 500
        self.is_stream = False

    def write(self) -> None:
        """Log and count the request."""
        seconds = time.perf_counter() - self._start
        method, route = self._scope["method"], _route_of(self._scope)
        if method not in _METHODS:
            method = "other"
        HTTP_REQUESTS.labels(method, route, str(self.status)).inc()
        if not self.is_stream:
            HTTP_SECONDS.labels(method, route).observe(seconds)
        level = logging.DEBUG if route in _QUIET else logging.INFO
        fields = {"method": method, "route": route, "status": self.status}
        logger.log(level, "request", extra=fields | {"ms": round(seconds * 1000, 1)})


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    return given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex


def _route_of(scope: Scope) -> str:
    """The template of the route that answers, such as "/screenings/{id}"."""
    route = scope.get("route")
    if route is not None:
        return str(route.path)
    return "/static" if scope["path"].startswith("/static/") else _UNMATCHED
