"""Links to pages."""

from dataclasses import dataclass
from urllib.parse import urlencode


@dataclass(frozen=True, slots=True)
class PageLink:
    """Something that has a page.

    Attributes:
        what: its kind, such as "data set".
    """

    what: str
    name: str
    url: str


def own_address(wanted: str) -> str:
    """The address to continue to, if it is one of ours; browsers take a backslash for a slash."""
    is_own = wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    return wanted if is_own and wanted.isprintable() else "/"


def with_query(path: str, **query: object) -> str:
    """A URL with the parts of its query that are given."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path
