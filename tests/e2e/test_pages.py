"""What every page owes its visitors: privacy, sharing, accessibility, and a fit on any screen."""

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import BrowserContext, Page, Response, expect

from tests.e2e.conftest import Faults, OpenVisitor

AXE_OPTIONS = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
}
OPEN_DETAILS = "() => document.querySelectorAll('details').forEach((one) => { one.open = true; })"
NO_SUCH_PAGE = "/no-such-page"


def status_of(page: Page, address: str) -> int:
    """Go to an address; its HTTP status."""
    answer = page.goto(address)
    assert answer, f"{address} answered nothing"
    return answer.status


def addresses(screening: Page) -> list[str]:
    """Every kind of page, with the screening's own."""
    return ["/", screening.url, "/screenings", "/model", "/trust", "/api", NO_SUCH_PAGE]


def test_history_lists_this_visitors_images(screening: Page, images: list[Path]) -> None:
    address = screening.url
    screening.goto("/screenings")
    expect(screening.get_by_text("1 image from this browser")).to_be_visible()
    screening.locator(".history-row").click()
    expect(screening).to_have_url(address)


def test_history_of_a_new_visitor_is_empty(page: Page) -> None:
    page.goto("/screenings")
    expect(page.get_by_role("heading", name="No screenings yet")).to_be_visible()


def test_last_images_stand_on_the_first_page(screening: Page) -> None:
    address = screening.url
    screening.goto("/")
    screening.get_by_role("region", name="Recent screenings").locator(".image-card").click()
    expect(screening).to_have_url(address)


def test_another_visitor_gets_404(
    screening: Page, open_visitor: OpenVisitor, faults: Faults
) -> None:
    stranger = open_visitor().new_page()
    assert status_of(stranger, screening.url) == 404
    expect(stranger.get_by_role("link", name="New screening").last).to_be_visible()
    image = stranger.request.get(f"{screening.url}/image")
    assert image.status == 404
    faults.expect("Failed to load resource")


def test_shared_link_opens_until_sharing_stops(
    screening: Page, open_visitor: OpenVisitor, faults: Faults
) -> None:
    screening.get_by_role("button", name="Create link").click()
    link = screening.get_by_label("Link to this page").input_value()

    guest = open_visitor().new_page()
    guest.goto(link)
    expect(guest.get_by_text("This page was shared with you")).to_be_visible()
    expect(guest.get_by_role("heading", level=1)).to_be_visible()
    guest.wait_for_function("() => document.getElementById('image').naturalWidth > 0")
    expect(guest.get_by_role("button", name="Delete permanently")).to_have_count(0)
    expect(guest.get_by_role("heading", name="Share")).to_have_count(0)

    screening.get_by_role("button", name="Stop sharing").click()
    expect(screening.get_by_role("button", name="Create link")).to_be_visible()
    assert status_of(guest, link) == 404
    faults.expect("Failed to load resource")


def test_link_is_copied(screening: Page, context: BrowserContext) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    screening.get_by_role("button", name="Create link").click()
    link = screening.get_by_label("Link to this page").input_value()
    screening.get_by_role("button", name="Copy").click()
    expect(screening.get_by_role("button", name="Copied")).to_be_visible()
    assert screening.evaluate("() => navigator.clipboard.readText()") == link


def test_deleted_image_is_gone(screening: Page, faults: Faults) -> None:
    address = screening.url
    screening.get_by_text("Delete this screening").click()
    screening.get_by_role("button", name="Delete permanently").click()
    expect(screening.get_by_role("heading", name="No screenings yet")).to_be_visible()
    assert status_of(screening, address) == 404
    faults.expect("Failed to load resource")


def test_answer_names_its_model(screening: Page) -> None:
    screening.locator(".facts").get_by_role("link").first.click()
    expect(screening).to_have_url(re.compile("/models/"))
    expect(screening.get_by_role("heading", level=1)).to_contain_text("Classifier ")


def test_examples_of_the_api_page_are_json(page: Page) -> None:
    page.goto("/api")
    examples = page.get_by_label(re.compile("Example of ")).all()
    bodies = [json.loads(example.text_content() or "") for example in examples]
    answer = next(body for body in bodies if "decision" in body)
    assert set(answer["probabilities"]) == {"covid", "pneumonia", "normal"}


def test_keyboard_reaches_the_content_and_the_picker(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    while not page.get_by_role("button", name="Choose images").evaluate(
        "(button) => button === document.activeElement"
    ):
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement !== document.body")


# Colours depend on the scheme and sizes on the width, hardly on both together.
@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1440)])
def test_no_page_breaks_an_accessibility_rule(
    screening: Page, faults: Faults, scheme: str, width: int
) -> None:
    screening.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    screening.get_by_role("button", name="Create link").click()
    screening.set_viewport_size({"width": width, "height": 900})
    for address in addresses(screening):
        screening.goto(address)
        screening.evaluate(OPEN_DETAILS)
        found = Axe().run(screening, options=AXE_OPTIONS)
        assert found.violations_count == 0, f"{address}: {found.generate_report()}"
    faults.expect("Failed to load resource")


@pytest.mark.parametrize("width", [320, 768, 1920])
def test_no_page_is_wider_than_the_screen(screening: Page, faults: Faults, width: int) -> None:
    screening.get_by_role("button", name="Create link").click()
    screening.set_viewport_size({"width": width, "height": 800})
    for address in addresses(screening):
        screening.goto(address)
        assert screening.evaluate("() => document.documentElement.scrollWidth") <= width, address
    faults.expect("Failed to load resource")


def test_pages_load_nothing_from_elsewhere(
    screening: Page, faults: Faults, live_server: str
) -> None:
    requested: list[str] = []
    policies: list[str | None] = []

    def note(response: Response) -> None:
        requested.append(response.url)
        if response.request.is_navigation_request():
            policies.append(response.headers.get("content-security-policy"))

    screening.on("response", note)
    for address in addresses(screening):
        screening.goto(address, wait_until="networkidle")
    assert policies
    assert all(policy and "default-src 'self'" in policy for policy in policies)
    assert all(url.startswith((live_server, "blob:", "data:")) for url in requested)
    faults.expect("Failed to load resource")
