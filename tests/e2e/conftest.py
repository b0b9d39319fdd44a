"""A real Chromium against a real server; `live_server` gives the server's address."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from app.accounts.tables import Role, User
from app.accounts.users import open_session
from app.core.database import Database
from app.core.security import SESSION_COOKIE
from tests.conftest import leave_out
from tests.support.browser import find_chromium
from tests.support.images import png, synthetic_image

# Generous, for a busy machine: what is expected is seen as soon as it is there.
expect.set_options(timeout=30_000)
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--no-first-run",
]


# Package scope: Playwright keeps an event loop in this thread, which must end with these tests.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, started once for all of these tests."""
    path = find_chromium()
    if path is None:
        leave_out("no Chromium here, and none could be installed")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield opened
        opened.close()


@dataclass
class Faults:
    """What a page complained about: script errors, refused loads, breaches of the CSP."""

    seen: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Listen to a page's console."""
        page.on("pageerror", lambda error: self.seen.append(str(error)))
        page.on("console", lambda line: self._console(line.type, line.text))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.seen.append(text)

    def expect(self, part: str) -> None:
        """Forgive the faults that a test provoked on purpose, and only those."""
        assert any(part in fault for fault in self.seen), f"no {part!r} among {self.seen}"
        self.seen = [fault for fault in self.seen if part not in fault]


@pytest.fixture
def faults() -> Iterator[Faults]:
    """Complaints of every page of a test; a test that leaves any fails."""
    watched = Faults()
    yield watched
    assert not watched.seen


OpenVisitor = Callable[..., BrowserContext]


@pytest.fixture
def open_visitor(browser: Browser, live_server: str, faults: Faults) -> Iterator[OpenVisitor]:
    """Open a separate browser context: another visitor."""
    opened: list[BrowserContext] = []

    def open_one(**options: Any) -> BrowserContext:
        context = browser.new_context(base_url=live_server, **options)
        context.set_default_timeout(60_000)
        context.on("page", faults.watch)
        opened.append(context)
        return context

    yield open_one
    for context in opened:
        context.close()


@pytest.fixture
def context(open_visitor: OpenVisitor) -> BrowserContext:
    """The visitor of a test, at a desk."""
    return open_visitor(viewport={"width": 1280, "height": 900})


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """The visitor's page."""
    return context.new_page()


@pytest.fixture(scope="package")
def live_database(live_server: str, live_home: Path) -> Iterator[Database]:
    """The database of the server."""
    database = Database(f"sqlite:///{live_home / 'xray.db'}")
    yield database
    database.close()


@pytest.fixture
def sign_in_admin(live_database: Database, live_server: str) -> Callable[[Page], Page]:
    """Makes an admin and signs a page in; the form of that is tested elsewhere."""

    def make(page: Page) -> Page:
        with live_database.session() as session:
            # Hashing a password takes long on purpose.
            name = f"admin {time.monotonic_ns()}"
            user = User(name=name, password_hash="none", role=Role.ADMIN)
            session.add(user)
            session.flush()
            token = open_session(session, user)
        page.context.add_cookies([{"name": SESSION_COOKIE, "value": token, "url": live_server}])
        return page

    return make


@pytest.fixture
def console(page: Page, sign_in_admin: Callable[[Page], Page]) -> Page:
    """A page of an admin who is signed in."""
    return sign_in_admin(page)


@pytest.fixture(scope="package")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three different chest-like images as PNG files."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(20)
    paths = [folder / f"image-{number}.png" for number in range(3)]
    for path in paths:
        path.write_bytes(png(synthetic_image(rng, 640, 512)))
    return paths


@pytest.fixture(scope="package")
def no_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is no picture, with markup in its name."""
    path = tmp_path_factory.mktemp("files") / "<b>letter.png"
    path.write_bytes(b"%PDF-1.7 not an image")
    return path


@pytest.fixture
def screening(page: Page, images: list[Path]) -> Page:
    """The visitor on the page of an image just screened."""
    page.goto("/")
    page.set_input_files("#image", images[0])
    page.wait_for_url("**/screenings/*")
    return page
