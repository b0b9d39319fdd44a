"""The path below which a proxy serves the application, such as /xray."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_SANE = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
# A proxy may take the root path away or leave it, and which it does is seen from the path alone.
# So no page of the application may begin like it.
OWN_FOLDERS = frozenset(
    {
        "account",
        "admin",
        "api",
        "gallery",
        "language",
        "livez",
        "metrics",
        "model",
        "models",
        "readyz",
        "samples",
        "screenings",
        "screenings.csv",
        "selection",
        "sign-in",
        "sign-out",
        "sign-out-everywhere",
        "static",
        "trust",
        "validate",
    }
)


def _checked(path: str) -> str:
    path = path.rstrip("/")
    if not path:
        return ""
    if not _SANE.fullmatch(path):
        raise ValueError(f"{path!r} is no path such as /xray.")
    if (first := path.split("/")[1]) in OWN_FOLDERS:
        raise ValueError(f"/{first} is a page of the application. Choose another, such as /xray.")
    return path


# Checked, with a slash at its beginning and none at its end; empty at the root of the host.
RootPath = Annotated[str, AfterValidator(_checked)]


def path_of(url: str) -> str:
    """The path of an address as a root path.

    Raises:
        ValueError: it cannot be one.
    """
    return _checked(urlsplit(url).path)
