"""The whole story in one browser: from no image at all to a classifier active, and back."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

NAME, WHY = "story-1", "only a trial on the demonstration set, rolled back at once"
SECRET = re.compile(r"Sign in as (\S+) with the password, shown only now:\s+(\S+)")


def listens(port: int) -> bool:
    """Whether something accepts connections on a port of this machine."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server with its worker on an empty home folder; its address and its first words."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if name[:5] != "XRAY_"}
    log = tmp_path / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--port", str(port)],
            env=inherited | {"XRAY_HOME": str(tmp_path / "home"), "XRAY_TRIAL_MODE": "true"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 120
        # It speaks before it listens.
        while not (SECRET.search(log.read_text()) and listens(port)):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", log.read_text()
    finally:
        family = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        server.wait(60)
        # Nothing of it is left: no worker, no trainer.
        _, alive = psutil.wait_procs(family, timeout=60)
        for left in alive:
            left.kill()
        assert not alive, f"left behind: {alive}"


@pytest.fixture
def console(browser: Browser, fresh_server: tuple[str, str]) -> Iterator[Page]:
    """The admin of the first start, signed in by the form."""
    address, words = fresh_server
    found = SECRET.search(words)
    assert found
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto("/admin")
    page.get_by_label("Name").fill(found[1])
    page.get_by_label("Password").fill(found[2])
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{address}/admin/runs")
    yield page
    context.close()


def start(page: Page, kind: str, **options: object) -> None:
    """Fill in the form of a kind of run, and send it."""
    page.goto(f"/admin/runs/new/{kind}")
    for folded in page.locator("details:not([open]) > summary").all():
        folded.click()
    for name, value in options.items():
        control = page.locator(f"#option-{name}")
        tag = control.evaluate("one => one.tagName")
        if tag == "FIELDSET":
            control.locator(f"[value='{value}']").check()
        elif tag == "SELECT":
            control.select_option(str(value))
        else:
            control.fill(str(value))
    page.get_by_role("button", name="Start", exact=True).click()
    refusal = page.locator(".notice-error, .field-fault")
    expect(page.locator("#run-state").or_(refusal).first).to_be_visible()
    assert not refusal.count(), refusal.all_inner_texts()


def wait_until_done(page: Page, seconds: float = 200) -> None:
    """Stay on a run's page, which follows the run by itself, until it is over."""
    state = page.locator("#run-state")
    expect(state).to_have_attribute(
        "data-status", re.compile("succeeded|failed|cancelled"), timeout=seconds * 1000
    )
    if state.get_attribute("data-status") != "succeeded":
        pytest.fail(page.locator("#main").inner_text())


def watch_samples(page: Page) -> None:
    """See the grid of samples change during the training, without a reload."""
    page.evaluate("window.stayed = true")
    picture = page.locator("#sample-image")
    first = picture.get_attribute("src", timeout=180_000)
    expect(picture).not_to_have_attribute("src", str(first), timeout=180_000)
    assert page.evaluate("window.stayed")


def screen(page: Page, image: Path) -> str:
    """Put in an image; the version of the model that answered it."""
    page.goto("/")
    page.set_input_files("#image", image)
    page.wait_for_url("**/screenings/*")
    return page.locator("dt:text-is('Model') + dd").inner_text()


# Two minutes on an idle machine; a busy one may take longer.
@pytest.mark.timeout(900)
def test_from_no_image_to_a_classifier_serving_sha256_and_back(
    console: Page, images: list[Path]
) -> None:
    page = console
    released = screen(page, images[0])

    page.goto("/admin/data")
    expect(page.get_by_role("link", name=re.compile("demonstration", re.I)).first).to_be_visible()

    start(
        page,
        "train-gan",
        size=32,
        labels="covid",
        steps=12,
        evaluation_interval=4,
        critic_steps=1,
        batch_size=16,
    )
    watch_samples(page)
    wait_until_done(page)
    expect(page.locator("#run-curves .curve").first).to_be_visible()
    page.locator("#run-result").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Generator")
    generator = page.url.rpartition("/")[2]

    start(page, "synthesize", generator=generator, count=24, label="covid")
    wait_until_done(page)
    synthetic = page.locator("#run-result a[href^='/admin/data/']").get_attribute("href")
    assert synthetic
    page.goto(f"/gallery?model={generator}")
    expect(page.locator("main a[href^='/gallery/'] img")).to_have_count(24)

    start(
        page,
        "train-classifier",
        synthetic=synthetic.rpartition("/")[2],
        bundle_version=NAME,
        network="efficientnet-lite0",
        epochs=1,
        small_epochs=1,
        small_size=64,
    )
    wait_until_done(page)
    page.locator("#run-result a[href^='/admin/models/']").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Classifier {NAME}")
    candidate = page.url
    expect(page.get_by_text("It has not been compared with the active version")).to_be_visible()

    page.get_by_role("button", name="Compare with active classifier").click()
    page.wait_for_url("**/admin/runs/*")
    wait_until_done(page)
    page.goto(candidate)
    expect(page.locator("#comparisons")).to_contain_text("Details")
    # After one epoch it is hardly as good as the released one; if it is, the promotion checks
    # stand open.
    if page.locator("#override").count():
        page.locator("#override").fill(WHY)
    page.locator("#activation").get_by_role("button").click()
    expect(page.locator(".page-head")).to_contain_text("active", ignore_case=True)
    assert screen(page, images[1]) == NAME

    page.goto("/admin/models")
    page.get_by_role("link", name="Roll back").click()
    page.get_by_role("button", name="Roll back").click()
    page.wait_for_url("**/admin/models")
    assert screen(page, images[2]) == released
    page.goto("/admin/audit?about=" + candidate.rpartition("/")[2])
    expect(page.locator("main")).to_contain_text("model.activated")
