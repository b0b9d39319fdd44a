"""Addresses below the root path: pages say /screenings, browsers need /xray/screenings.

Inside the application no address has the root path. It is taken away where a request comes in, and
added where an address leaves: in headers by `UnderRootPath`, in attributes of templates by
`app.core.rooted_templates`, in JSON by the type `Address`. A page or route needs to know nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from fastapi import Request
from pydantic import Field, PlainSerializer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ROOT: ContextVar[str] = ContextVar("root_path", default="")


@contextmanager
def under_root(root: str) -> Iterator[None]:
    """Let addresses that leave during the block have a root path."""
    before = _ROOT.set(root)
    try:
        yield
    finally:
        _ROOT.reset(before)


def root_path() -> str:
    """The root path of the application that answers; empty at the root of the host."""
    return _ROOT.get()


def rooted(address: str) -> str:
    """An address as it leaves the application; those of other hosts and parts of a page stay."""
    root = _ROOT.get()
    is_ours = address and address.startswith("/") and not address.startswith("//")
    # No page begins like the root path, so an address that does has it already.
    if not is_ours or f"{address}/".startswith(f"{root}/"):
        return address
    return root + address


# Of a page or file of this application, in JSON. Every field that holds one has this type.
Address = Annotated[
    str,
    PlainSerializer(rooted, return_type=str),
    Field(json_schema_extra={"format": "uri-reference"}),
]


def site_address(request: Request) -> str:
    """Where this application is on the web, without a slash at the end."""
    configured: str = request.app.state.settings.public_address
    return configured or str(request.base_url).rstrip("/") + root_path()


class UnderRootPath:
    """Takes the root path from requests, where the proxy left it, and adds it to headers.

    Args:
        app: what answers, all other middleware included.
        root: the root path; empty at the root of the host.
    """

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app = app
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = Headers(scope=scope).get("host", "")

        async def send_rooted(message: Message) -> None:
            if message["type"] == "http.response.start":
                _root_headers(MutableHeaders(scope=message), host)
            await send(message)

        with under_root(self._root):
            await self._app(_without_root(scope, self._root), receive, send_rooted)


def _without_root(scope: Mapping[str, Any], root: str) -> Scope:
    path, raw = scope["path"], scope.get("raw_path")
    if not root or not f"{path}/".startswith(f"{root}/"):
        return dict(scope)
    # A root path holds no character that would be escaped, so both have it in the same bytes.
    inner = {"path": path.removeprefix(root) or "/"}
    if raw is not None:
        inner["raw_path"] = raw.removeprefix(root.encode()) or b"/"
    return {**scope, **inner}


def _root_headers(headers: MutableHeaders, host: str) -> None:
    if "location" in headers:
        headers["location"] = rooted(_on_this_host(headers["location"], host))
    if not root_path():
        return
    cookies = headers.getlist("set-cookie")
    if cookies:
        del headers["set-cookie"]
    for cookie in cookies:
        parts = [f"Path={root_path()}" if p.lower() == "path=/" else p for p in cookie.split("; ")]
        headers.append("set-cookie", "; ".join(parts))


def _on_this_host(location: str, host: str) -> str:
    """The path alone where the framework names this host: it may not know the proxy's scheme."""
    found = urlsplit(location)
    return urlunsplit(found._replace(scheme="", netloc="")) if found.netloc == host else location
