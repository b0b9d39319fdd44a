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


def with_query(path: str, **query: object) -> str:
    """A URL with the parts of its query that are given."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path
