"""The gallery in a real browser: a selection, the way between two images, a round of the quiz."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, BrowserContext, Page, expect

from app.core.database import Database
from app.datasets.tables import DataKind
from app.gallery.queries import PAGE_SIZE
from app.gallery.registration import register_images
from app.migrations import upgrade
from app.registry.registration import register_generator
from app.settings import Settings
from benchmarks.server import our_server
from ml.data.manifest import COLUMNS
from ml.gan.onnx_generator import PRETRAINED
from tests.e2e.conftest import Faults
from tests.e2e.test_pages import AXE_OPTIONS
from tests.support.images import png, synthetic_image
from tests.support.synthetic_set import new_set, new_version

ALL_IMAGES = PAGE_SIZE + 10


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose gallery has a page of images and ten more, and images for the quiz."""
    home = tmp_path_factory.mktemp("gallery")
    settings = Settings(_env_file=None, home=home)
    database = Database(settings.effective_database_url)
    upgrade(database.engine)
    with database.session() as session:
        generator = register_generator(session, settings, PRETRAINED, run=None, by="test")
        images = [(("covid", "normal")[seed % 2], seed) for seed in range(ALL_IMAGES)]
        version = new_set(session, settings, generator, images)
        register_images(session, version, home / version.folder)
        people = new_version(session, "ab" * 32, DataKind.IMAGES)
        people.quiz_allowed = True
        _write_people(home / people.folder)
    database.close()
    with our_server(home) as server:
        yield f"http://127.0.0.1:{server.port}"


def _write_people(folder: Path) -> None:
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS, restval="")
        rows.writeheader()
        for number in range(12):
            content = png(synthetic_image(np.random.default_rng(number), 80, 80))
            (folder / f"{number}.png").write_bytes(content)
            row = {"image": f"{number}.png", "label": ("covid", "normal")[number % 2]}
            row |= {"source": "hospital", "patient": f"p-{number}", "license": "CC BY 4.0"}
            rows.writerow(row)


@pytest.fixture
def visit(browser: Browser, gallery: str, faults: Faults) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=gallery, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(15_000)
    context.on("page", faults.watch)
    yield context
    context.close()


@pytest.fixture
def page(visit: BrowserContext) -> Page:
    return visit.new_page()


def test_selection_goes_over_pages_and_is_downloaded(page: Page) -> None:
    page.goto("/gallery")
    images = page.locator(".shelf-image")
    expect(images).to_have_count(PAGE_SIZE)
    expect(page.get_by_role("button", name="Download selected images")).to_be_disabled()
    images.nth(1).get_by_role("checkbox").check()
    page.get_by_role("link", name="More images").click()
    expect(images).to_have_count(ALL_IMAGES)
    expect(page.get_by_role("link", name="More images")).to_be_hidden()
    images.last.get_by_role("checkbox").check()
    expect(page.get_by_text("2 images selected")).to_be_visible()
    # A page later, and back: the ticks are still there.
    images.nth(1).locator("a").click()
    page.go_back()
    expect(page.get_by_text("2 images selected")).to_be_visible()
    expect(images.nth(1).get_by_role("checkbox")).to_be_checked()
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download selected images").click()
    with zipfile.ZipFile(downloading.value.path()) as archive:
        manifest = archive.read("synthetic-images/manifest.csv").decode()
        assert len(list(csv.DictReader(io.StringIO(manifest)))) == 2
    page.get_by_role("button", name="Clear selection").click()
    expect(page.get_by_text("Select images to download")).to_be_visible()


def test_two_images_of_a_class_are_blended(page: Page) -> None:
    page.goto("/gallery?label=covid")
    boxes = page.locator(".shelf-image").get_by_role("checkbox")
    blend = page.get_by_role("link", name="Interpolate")
    boxes.nth(0).check()
    expect(blend).to_be_hidden()
    boxes.nth(1).check()
    blend.click()
    expect(page).to_have_url(re.compile(r"/gallery/between\?.*label=covid"))
    large = page.get_by_role("img", name="The image at this position")
    # Its script shows the scrubber when it has taken hold of it.
    expect(large).to_be_visible()
    page.get_by_role("slider", name="Position").press("End")
    expect(large).to_have_attribute("viewBox", "1792 0 256 256")
    page.locator(".strip li").first.click()
    expect(large).to_have_attribute("viewBox", "0 0 256 256")


def test_image_is_made_from_a_seed(page: Page) -> None:
    page.goto("/gallery/make")
    page.get_by_label("Seed").fill("42")
    page.get_by_label("Class").select_option("normal")
    page.get_by_role("button", name="Generate").click()
    picture = page.get_by_role("img", name="The synthetic image of seed 42")
    expect(picture).to_be_visible()
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 512


def test_gallery_and_quiz_work_without_a_script(
    browser: Browser, gallery: str, faults: Faults
) -> None:
    context = browser.new_context(base_url=gallery, java_script_enabled=False)
    context.on("page", faults.watch)
    page = context.new_page()
    page.goto("/gallery")
    page.get_by_role("link", name="More images").click()
    expect(page.locator(".shelf-image")).to_have_count(ALL_IMAGES - PAGE_SIZE)
    page.locator(".shelf-image").first.get_by_role("checkbox").check()
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download selected images").click()
    assert zipfile.is_zipfile(downloading.value.path())

    page.goto("/gallery/quiz")
    page.get_by_role("button", name="Start").click()
    for group in page.get_by_role("group", name=re.compile("Image ")).all():
        group.get_by_label("synthetic").check()
    page.get_by_role("button", name="Show result").click()
    expect(page.get_by_role("heading", name="10 of 20 correct")).to_be_visible()
    expect(page.get_by_text("You judged 0 of 10 synthetic images real")).to_be_visible()
    context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_page_of_the_gallery_is_hard_to_read(page: Page, scheme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto("/gallery")
    older = page.locator("a[rel=next]").get_attribute("href")
    page.goto("/gallery/quiz")
    page.get_by_role("button", name="Start").click()
    addresses = [
        "/gallery",
        older or "",
        "/gallery/1",
        "/gallery/make?seed=1",
        "/gallery/between?from=1&to=2",
        "/gallery/quiz",
        page.url,
    ]
    for address in addresses:
        page.goto(address)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, address
        found = Axe().run(page, options=AXE_OPTIONS)
        assert found.violations_count == 0, f"{address} at {width}: {found.generate_report()}"
