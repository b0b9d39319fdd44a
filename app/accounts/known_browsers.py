"""Browsers in which a user has signed in before: others' wrong passwords do not delay them."""

import hashlib
import secrets
import uuid

from itsdangerous import BadSignature, Signer

KNOWN_COOKIE = "xray_known"
KNOWN_AGE_S = 365 * 24 * 3600


def new_known_browser(user_id: uuid.UUID, key: str) -> str:
    """The cookie of a browser in which a user has just signed in."""
    return _signer(key).sign(f"{user_id}/{secrets.token_urlsafe(16)}").decode()


def read_known_browser(cookie: str | None, key: str) -> str | None:
    """What is signed in a cookie; None where it is missing or forged."""
    if not cookie:
        return None
    try:
        return _signer(key).unsign(cookie).decode()
    except BadSignature:
        return None


def is_known_to(browser: str | None, user_id: uuid.UUID | None) -> bool:
    """Whether it is this user who has signed in with the browser before."""
    return bool(browser and user_id) and str(browser).startswith(f"{user_id}/")


def browser_source(browser: str) -> str:
    """The browser's name in the audit log; of no use as a cookie."""
    return f"browser:{hashlib.sha256(browser.encode()).hexdigest()[:16]}"


def _signer(key: str) -> Signer:
    return Signer(key, salt="xray.known-browser", digest_method=hashlib.sha256)
