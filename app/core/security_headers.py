"""Response headers that switch off what the pages do not need."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
# On every response of a server in trial mode, whose predictions nobody should use.
TRIAL_HEADER = "X-Trial-Mode"
_HSTS = "max-age=31536000"
_STATIC_CACHE = "public, max-age=31536000, immutable"


class SecurityHeaders:
    """Adds the headers to every response that does not set its own."""

    def __init__(self, app: ASGIApp, *, secure: bool, trial_mode: bool = False):
        self.app = app
        self.secure = secure
        self.trial_mode = trial_mode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # A static file's address holds a hash of its content.
        static = scope["path"].startswith("/static/")
        lasting = static and scope["query_string"].startswith(b"v=")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = message["status"] == 200
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if lasting and found:
                    headers["Cache-Control"] = _STATIC_CACHE
                elif not static:
                    headers.setdefault("Cache-Control", "private, no-store")
                if self.trial_mode:
                    headers[TRIAL_HEADER] = "true"
                if self.secure:
                    headers.setdefault("Strict-Transport-Security", _HSTS)
            await send(message)

        await self.app(scope, receive, send_with_headers)
