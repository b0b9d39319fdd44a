"""A crawler that follows every link, form and redirect of the application, as one caller.

By hand, against a server behind a real proxy:

    XRAY_PASSWORD=... python -m tests.support.crawler http://127.0.0.1:8080/xray --user admin
"""

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urldefrag, urljoin, urlsplit

from httpx2 import Client, Response
from starlette.testclient import TestClient

from tests.support.console import FormReader

# What takes things away comes last, and signing out after that.
_LATER = re.compile(r"/(delete|archive|revoke|hide|sign-out|sign-out-everywhere|password)$")
_ID = re.compile(r"/([0-9a-f]{64}|[0-9a-f-]{36}|\d+)(?=/|$)")
_ADDRESS = re.compile(r"href|src|poster|data-(?:[a-z]+-)*url")
# An event stream has no end.
_ENDLESS = re.compile(r"/events$")


class Caller(Protocol):
    """A client that keeps cookies and follows no redirect."""

    def get(self, url: str) -> Response:
        """Get a page."""

    def post(self, url: str, *, data: Mapping[str, list[str]]) -> Response:
        """Send a form."""


@dataclass
class _Page(HTMLParser):
    """The addresses of a page."""

    html: str
    links: list[str] = field(default_factory=list)
    forms: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attrs}
        self.links += [value for name, value in about.items() if _ADDRESS.fullmatch(name)]
        if tag == "form":
            self.forms.append((about.get("method", "get"), about.get("action", "")))
        if "formaction" in about:
            self.forms.append((about.get("formmethod", "post"), about["formaction"]))


@dataclass
class Crawl:
    """What was found below an address, as one caller.

    Attributes:
        caller: sends the requests.
        start: the address of the application, with its root path.
        seen: the pages and files, with their status.
        posted: the forms that were sent, with the status of the answer.
        faults: what leads out of the application, or nowhere.
    """

    caller: Caller
    start: str
    seen: dict[str, int] = field(default_factory=dict)
    posted: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def run(self, most_alike: int = 3) -> "Crawl":
        """Follow all there is; of addresses that differ in ids or query only, a few."""
        waiting, forms = [(self.start, "the start")], {}
        alike: dict[str, int] = {}
        while waiting:
            url, origin = waiting.pop(0)
            shape = _shape(url)
            if url in self.seen or _ENDLESS.search(url) or alike.get(shape, 0) >= most_alike:
                continue
            alike[shape] = alike.get(shape, 0) + 1
            answer = self._checked(self.caller.get(url), url, origin)
            self.seen[url] = answer.status_code
            for found, method in self._addresses(answer, url):
                if method == "post":
                    forms.setdefault(_shape(found), (found, answer.text, url))
                else:
                    waiting.append((found, url))
        for url, html, origin in sorted(forms.values(), key=lambda form: _rank(form[0])):
            # The fields of all forms of the page together: what is too much is ignored.
            answer = self.caller.post(url, data=FormReader(html).with_values())
            self.posted[url] = self._checked(answer, url, origin).status_code
            for found, method in self._addresses(answer, url):
                if method == "get" and answer.is_redirect:
                    self._checked(self.caller.get(found), found, url)
        return self

    def _addresses(self, answer: Response, url: str) -> Iterator[tuple[str, str]]:
        """The addresses that an answer leads to, each with the method."""
        if answer.is_redirect:
            yield self._inside(answer.headers["location"], url), "get"
        if not answer.headers.get("content-type", "").startswith("text/html"):
            return
        page = _Page(answer.text)
        for link in page.links:
            if link and not link.startswith(("https:", "data:", "mailto:")):
                yield self._inside(link, url), "get"
        for method, action in page.forms:
            yield self._inside(action, url), method

    def _inside(self, address: str, url: str) -> str:
        absolute = urldefrag(urljoin(url, address)).url
        if f"{urldefrag(absolute).url.partition('?')[0]}/".startswith(f"{self.start}/"):
            return absolute
        self.faults.append(f"{address} on {url} leads out of the application")
        return self.start

    def _checked(self, answer: Response, url: str, origin: str) -> Response:
        if answer.status_code in (404, 405) or answer.status_code >= 500:
            self.faults.append(f"{url}, found on {origin}: status {answer.status_code}")
        for cookie in answer.headers.get_list("set-cookie"):
            if f"path={urlsplit(self.start).path or '/'}" not in cookie.lower().split("; "):
                self.faults.append(f"{url} sets the cookie {cookie}")
        return answer


def _shape(url: str) -> str:
    return _ID.sub("/{id}", url.partition("?")[0])


def _rank(url: str) -> tuple[int, bool, str]:
    return (1 if _LATER.search(url) else 0, "sign-out" in url, url)


def crawl(caller: TestClient, start: str) -> Crawl:
    """Crawl an application in this process; of addresses that are alike, one."""
    return Crawl(cast("Caller", caller), start).run(most_alike=1)


def main() -> None:
    """Crawl a server; exit with status 1 where something leads out of it or nowhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="address of the application, without a slash at its end")
    parser.add_argument("--image", type=Path, help="upload this image first")
    parser.add_argument("--user", help="sign in first, with the password in XRAY_PASSWORD")
    given = parser.parse_args()
    with Client(timeout=60) as client:
        if given.user:
            sent = {"name": given.user, "password": os.environ["XRAY_PASSWORD"], "next": "/"}
            answer = client.post(f"{given.url}/sign-in", data=sent)
            assert answer.status_code == 303, answer.text
            print("signed in:", answer.status_code, answer.headers.get("location"))
        if given.image:
            files = {"image": given.image.read_bytes()}
            answer = client.post(f"{given.url}/screenings", files=files)
            print("uploaded:", answer.status_code, answer.headers.get("location"))
        found = Crawl(cast("Caller", client), given.url).run()
    print(f"{len(found.seen)} pages and files, {len(found.posted)} forms")
    for fault in found.faults:
        print(fault)
    raise SystemExit(bool(found.faults))


if __name__ == "__main__":
    main()
