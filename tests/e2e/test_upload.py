"""Putting images in: by file picker, by dropping, by pasting, and without JavaScript."""

import base64
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import Faults, OpenVisitor

# Builds a DataTransfer with a file, as the browser does when one is dropped or pasted.
TRANSFER = """([kind, name, content]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
    const event = kind === "paste"
        ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
        : new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
}"""


def transfer(page: Page, kind: str, image: Path) -> None:
    """Dispatch a drag or clipboard event that carries an image."""
    page.evaluate(TRANSFER, [kind, image.name, base64.b64encode(image.read_bytes()).decode()])


def test_one_chosen_image_leads_to_its_answer(page: Page, images: list[Path]) -> None:
    page.goto("/")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose images").click()
    chooser.value.set_files(images[0])

    page.wait_for_url(re.compile(r"/screenings/[0-9a-f-]{36}$"))
    expect(page.get_by_role("heading", level=1)).to_have_text(
        re.compile("COVID-19|Pneumonia|Normal|Uncertain")
    )
    rows = page.get_by_role("table", name="Probability of each class").get_by_role("row")
    expect(rows).to_have_count(3)
    shares = [float(text.split()[0]) for text in page.locator(".probability").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    widths = [float(bar.get_attribute("width") or "") for bar in page.locator(".bar-value").all()]
    assert widths == pytest.approx([10 * share for share in shares], abs=1)


def test_several_images_get_a_row_each(page: Page, images: list[Path]) -> None:
    page.goto("/")
    page.set_input_files("#image", images)

    rows = page.locator(".queue-row")
    expect(rows).to_have_count(3)
    links = page.get_by_role("link", name=re.compile("View result for image-"))
    expect(links).to_have_count(3)
    expect(rows.first.locator(".verdict")).to_be_visible()
    expect(rows.first.locator(".queue-confidence")).to_contain_text(re.compile("%|score"))
    assert rows.locator(".file-name").all_inner_texts() == [image.name for image in images]
    expect(page.locator(".queue-picture img")).to_have_count(3)
    expect(page.get_by_role("status")).to_contain_text("image-")

    links.nth(1).click()
    page.wait_for_url("**/screenings/*")
    # All three belong to this visitor, though the first of them made the visitor.
    page.goto("/screenings")
    expect(page.locator(".history-row")).to_have_count(3)


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_image_is_dropped_or_pasted_anywhere(page: Page, images: list[Path], kind: str) -> None:
    page.goto("/")
    transfer(page, kind, images[1])
    page.wait_for_url("**/screenings/*")


def test_dragging_a_image_shows_where_it_goes(page: Page, images: list[Path]) -> None:
    page.goto("/")
    transfer(page, "dragover", images[0])
    expect(page.locator("body")).to_have_class("is-dragging")
    transfer(page, "dragleave", images[0])
    expect(page.locator("body")).not_to_have_class("is-dragging")


def test_file_that_is_no_image_says_why(page: Page, faults: Faults, no_image: Path) -> None:
    page.goto("/")
    page.set_input_files("#image", no_image)

    row = page.locator(".queue-row")
    expect(row.locator("strong")).to_be_visible()
    expect(row.locator(".file-name")).to_have_text("<b>letter.png")
    expect(row.get_by_role("button", name="Try again")).to_be_hidden()
    expect(page.get_by_role("status")).to_contain_text("letter")
    faults.expect("Failed to load resource")


def test_uploads_are_cancelled_one_or_all(page: Page, images: list[Path]) -> None:
    page.route("**/screenings", lambda _route: None)  # no upload is answered
    page.goto("/")
    page.set_input_files("#image", images)
    rows, again = page.locator(".queue-row"), page.get_by_role("button", name="Try again")
    page.get_by_role("button", name=f"Cancel the upload of {images[2].name}").click()
    expect(rows.nth(2)).to_contain_text("cancelled")
    expect(again).to_have_count(1)
    page.get_by_role("button", name="Cancel all").click()
    expect(again).to_have_count(3)
    page.unroute("**/screenings")
    again.first.click()
    expect(rows.first.locator(".verdict")).to_be_visible()
    expect(rows.last).to_contain_text("cancelled")


def test_too_large_file_is_not_sent(page: Page, images: list[Path]) -> None:
    page.goto("/")
    page.locator("#drop").evaluate("(form) => { form.dataset.maxBytes = '1000'; }")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    page.set_input_files("#image", images[0])
    expect(page.locator(".queue-row")).to_contain_text("too large")
    assert "POST" not in sent


def test_busy_service_is_asked_again(page: Page, faults: Faults, images: list[Path]) -> None:
    refused = 0

    def refuse_twice(route: Route) -> None:
        nonlocal refused
        if route.request.method != "POST" or refused == 2:
            return route.fallback()
        refused += 1
        problem = {"title": "Busy", "detail": "Try again.", "status": 503}
        return route.fulfill(
            status=503, json=problem, headers={"Retry-After": "0"}, content_type="application/json"
        )

    page.route("**/screenings", refuse_twice)
    page.goto("/")
    page.set_input_files("#image", images[0])
    page.wait_for_url("**/screenings/*")
    assert refused == 2
    faults.expect("Failed to load resource")


def test_lost_connection_leaves_a_button(page: Page, faults: Faults, images: list[Path]) -> None:
    page.route("**/screenings", lambda route: route.abort())
    page.clock.install()
    page.goto("/")
    page.set_input_files("#image", images[0])
    state = page.locator(".queue-state")
    for seconds in (2, 4, 8):
        expect(state).to_contain_text(f"retrying in {seconds} s")
        page.clock.fast_forward(seconds * 1000)
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()

    page.unroute("**/screenings")
    again.click()
    page.wait_for_url("**/screenings/*")
    faults.expect("net::ERR_FAILED")


def test_upload_and_answer_work_without_javascript(
    open_visitor: OpenVisitor, images: list[Path]
) -> None:
    page = open_visitor(java_script_enabled=False).new_page()
    page.goto("/")
    page.get_by_label("Choose X-ray images").set_input_files(images[0])
    page.get_by_role("button", name="Screen images").click()

    page.wait_for_url("**/screenings/*")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    heat = page.locator(".heat:visible")
    expect(heat).to_have_count(0)
    page.get_by_label("Heat map", exact=True).check()
    expect(heat).to_have_count(1)
    expect(page.locator("#opacity")).to_be_hidden()


def test_refused_file_without_javascript_shows_the_form_again(
    open_visitor: OpenVisitor, faults: Faults, images: list[Path], no_image: Path
) -> None:
    page = open_visitor(java_script_enabled=False).new_page()
    page.goto("/")
    page.get_by_label("Choose X-ray images").set_input_files([images[0], no_image])
    page.get_by_role("button", name="Screen images").click()

    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("<b>letter.png")
    expect(page.get_by_role("button", name="Screen images")).to_be_visible()
    expect(page.locator(".image-card")).to_have_count(1)
    faults.expect("Failed to load resource")
