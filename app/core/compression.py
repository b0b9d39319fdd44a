"""Compressed responses: pages, styles, scripts and JSON, but no picture and no stream of events."""

from starlette.datastructures import Headers
from starlette.middleware.gzip import (
    DEFAULT_EXCLUDED_CONTENT_TYPES,
    GZipMiddleware,
)
from starlette.types import ASGIApp, Receive, Scope, Send

_LEVEL = 5
_LEAST_BYTES = 1000
# Networks are no text, and a download without a length shows no progress.
_AS_IT_IS = (*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream")
_OUR_OWN = ("same-origin", "none")


class Compression:
    """Compresses responses where their length can betray nothing.

    The length of a compressed page shows how much of it repeats. Another site that makes the
    browser of a signed-in person ask for a page again and again, each time with another guess in
    the address, could read a secret of the page from the lengths on the wire (BREACH, 2013). So a
    request with a cookie is answered as it is, unless the browser says that no other site made it.

    Args:
        app: what answers.
        secure: whether responses leave over TLS; without it everybody on the way reads them.
    """

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        self._compressed = GZipMiddleware(
            app, _LEAST_BYTES, _LEVEL, exclude_content_types=_AS_IT_IS
        )
        self._secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        is_safe = scope["type"] == "http" and self._is_safe(Headers(scope=scope))
        await (self._compressed if is_safe else self._app)(scope, receive, send)

    def _is_safe(self, headers: Headers) -> bool:
        if not self._secure or "cookie" not in headers:
            return True
        return headers.get("sec-fetch-site") in _OUR_OWN
