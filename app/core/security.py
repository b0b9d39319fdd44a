"""Visitor cookies, API keys and the same-origin check."""

import hashlib
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from itsdangerous import BadSignature, Signer

from app.core.errors import CrossSite
from app.settings import Settings
from ml.texts import msg

VISITOR_COOKIE = "xray_visitor"
SESSION_COOKIE = "xray_session"
VISITOR_COOKIE_AGE_S = 365 * 24 * 3600
KEY_PREFIX = "xray_"


def cookie_name(name: str, settings: Settings) -> str:
    """The name of a cookie as browsers have it.

    Over TLS it has the prefix `__Host-`: browsers take such a cookie from this very host alone, so
    neither another subdomain nor anybody on the way can plant one. It belongs to the whole host, so
    below a root path it is `__Secure-`: other applications of the host get no cookie of ours.
    """
    if not settings.secure_cookies:
        return name
    return f"__Secure-{name}" if settings.effective_root_path else f"__Host-{name}"


def new_visitor() -> str:
    """A visitor's identity: random, so it says nothing about the person."""
    return secrets.token_urlsafe(24)


def visitor_cookie(cookies: Mapping[str, str], settings: Settings) -> str | None:
    """A visitor's cookie; over TLS also one of before it had its prefix, as it lasts for a year."""
    return cookies.get(cookie_name(VISITOR_COOKIE, settings)) or cookies.get(VISITOR_COOKIE)


def sign_visitor(visitor: str, key: str) -> str:
    """The cookie's value for a visitor."""
    return _visitor_signer(key).sign(visitor).decode()


def read_visitor(cookie: str | None, key: str) -> str | None:
    """The visitor of a cookie; None where it is missing, forged or signed with another key."""
    if not cookie:
        return None
    try:
        return _visitor_signer(key).unsign(cookie).decode()
    except BadSignature:
        return None


def _visitor_signer(key: str) -> Signer:
    return Signer(key, salt="xray.visitor", digest_method=hashlib.sha256)


def new_api_key() -> str:
    """A fresh key with 256 bits of randomness."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_api_key(key: str) -> str:
    """What is stored of a key. A key is random and long, so a plain fast hash cannot be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()


def require_same_origin(headers: Mapping[str, str]) -> None:
    """Refuse a form that another site made the browser send.

    Browsers state where a request comes from in Sec-Fetch-Site; those that do not yet send Origin
    with every POST. A client that sends neither is no browser and carries no one's cookie.

    Raises:
        CrossSite: the request comes from elsewhere.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        if site not in ("same-origin", "none"):
            raise CrossSite(
                msg("The form was sent from another site. Open the page here and send it again.")
            )
        return
    origin = headers.get("origin")
    # A malformed origin is that of nobody; "" is no host either.
    if origin is not None and (_host_of(origin) or None) != headers.get("host", ""):
        raise CrossSite(
            msg("The form was sent from another site. Open the page here and send it again.")
        )


def _host_of(origin: str) -> str | None:
    """Host and port of an origin; None where it is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
