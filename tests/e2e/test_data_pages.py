"""Data sets in the console and reviews on an image's page, in a real browser."""

import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from app.accounts.tables import Clinic, Role, User
from app.accounts.users import open_session
from app.core.database import Database
from app.core.security import SESSION_COOKIE
from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import register_data
from app.settings import Settings
from tests.app.datasets.test_datasets import make_folder
from tests.e2e.conftest import Faults, OpenVisitor
from tests.e2e.test_pages import AXE_OPTIONS, OPEN_DETAILS


@pytest.fixture
def version(live_database: Database, live_home: Path, tmp_path: Path) -> DataVersion:
    """A data version of the server, based on another one."""
    settings = Settings(_env_file=None, home=live_home)
    with live_database.session() as session:
        register = {"kind": DataKind.IMAGES, "by": "user:somebody"}
        parent = register_data(
            session, settings, make_folder(tmp_path / "a", 6), name="Images of spring", **register
        )
        return register_data(
            session,
            settings,
            make_folder(tmp_path / "b", 9),
            name="Images of spring and all those that came since",
            parent_sha256=parent.sha256,
            **register,
        )


@pytest.fixture
def clinician(page: Page, live_database: Database, live_server: str) -> Page:
    """A page of a clinician who is signed in."""
    name = f"dr {time.monotonic_ns()}"
    with live_database.session() as session:
        clinic = Clinic(name=f"Clinic of {name}")
        session.add(clinic)
        session.flush()
        user = User(name=name, password_hash="none", role=Role.CLINICIAN, clinic_id=clinic.id)
        session.add(user)
        session.flush()
        token = open_session(session, user)
    page.context.add_cookies([{"name": SESSION_COOKIE, "value": token, "url": live_server}])
    return page


def require_good_page(page: Page, address: str) -> None:
    """No accessibility rule is broken, and a phone shows it without moving sideways."""
    for scheme, width in (("light", 1280), ("dark", 390)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)
        page.evaluate(OPEN_DETAILS)
        found = Axe().run(page, options=AXE_OPTIONS)
        assert found.violations_count == 0, f"{address}: {found.generate_report()}"
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, address


def test_clinician_reviews_an_image(clinician: Page, images: list[Path]) -> None:
    clinician.goto("/")
    clinician.set_input_files("#image", images[0])
    clinician.wait_for_url("**/screenings/*")
    address = clinician.url
    review = clinician.get_by_role("region", name="Review")
    review.get_by_role("radio", name="Pneumonia").check()
    clinician.get_by_label("Reason").fill("consolidation on the CT of the same day")
    clinician.get_by_label("Patient code").fill("P-10482")
    clinician.get_by_role("button", name="Save review").click()
    expect(review.get_by_text("consolidation on the CT of the same day")).to_be_visible()
    expect(review.locator(".verdict")).to_have_text("Pneumonia")
    require_good_page(clinician, address)
    require_good_page(clinician, "/screenings")
    expect(clinician.get_by_text("Reviewed as")).to_be_visible()
    expect(clinician.get_by_text("1 image of Clinic of dr")).to_be_visible()


def test_data_sets_are_shown_and_renamed(console: Page, version: DataVersion) -> None:
    address = f"/admin/data/{version.sha256}"
    for each in ("/admin/data", address, f"/admin/data/new?base={version.sha256}"):
        require_good_page(console, each)
    console.goto("/admin/data")
    console.get_by_role("link", name=version.name).click()
    expect(console).to_have_url(re.compile(address))
    sheet = console.get_by_alt_text("Sample images of each class")
    sheet.scroll_into_view_if_needed()
    console.wait_for_function("() => document.querySelector('.contact-sheet').naturalWidth > 0")
    console.get_by_label("Data set name").fill("All images")
    console.get_by_role("button", name="Rename").click()
    expect(console.get_by_role("heading", level=1)).to_have_text("All images")
    console.get_by_role("button", name="Allow in the quiz").click()
    expect(console.get_by_role("button", name="Remove from the quiz")).to_be_visible()


def test_archive_is_sent_without_script(
    open_visitor: OpenVisitor,
    sign_in_admin: Callable[[Page], Page],
    version: DataVersion,
    images: list[Path],
    no_image: Path,
    faults: Faults,
    tmp_path: Path,
) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for label, image in zip(("covid", "pneumonia", "normal"), images, strict=True):
            packed.write(image, f"{label}/{image.name}")
    page = sign_in_admin(open_visitor(java_script_enabled=False).new_page())
    page.goto("/admin/data/new")
    page.get_by_label("Data set name").fill("Images of autumn")
    page.get_by_label("Add to data set").select_option(version.sha256)
    page.get_by_label("Archive to upload").set_input_files(no_image)
    page.get_by_role("button", name="Start import").click()
    expect(page.get_by_text("not a ZIP or TAR archive")).to_be_visible()
    faults.expect("Failed to load resource")
    # What was typed is there still; a browser does not choose a file again.
    expect(page.get_by_label("Data set name")).to_have_value("Images of autumn")
    expect(page.get_by_label("Add to data set")).to_have_value(version.sha256)
    page.get_by_label("Archive to upload").set_input_files(archive)
    page.get_by_role("button", name="Start import").click()
    expect(page).to_have_url(re.compile("/admin/runs/[0-9a-f-]{36}"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("Import a data set")
