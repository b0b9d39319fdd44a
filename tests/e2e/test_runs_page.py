"""The console's pages of runs in a browser: followed live, steered, and without a script."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, Route, expect
from sqlalchemy import delete

from app.core.database import Database
from app.datasets.tables import DataVersion
from app.runs import queue as runs
from app.runs.progress import RunProgress
from app.runs.service import create_run
from app.runs.tables import Run
from tests.e2e.conftest import Faults, OpenVisitor
from tests.e2e.test_pages import AXE_OPTIONS, OPEN_DETAILS
from tests.support.images import png
from tests.support.synthetic_set import data_version

OWNER = "browser-test:1"
DATA = "7" * 64


@dataclass(frozen=True)
class Training:
    """A run in the hands of the test, as a worker and its program would have it."""

    database: Database
    id: uuid.UUID
    folder: Path

    @property
    def url(self) -> str:
        return f"/admin/runs/{self.id}"

    def tick(self, step: int) -> None:
        """Write a grid and metrics, then record them, as at a checkpoint."""
        (self.folder / "samples").mkdir(parents=True, exist_ok=True)
        grey = np.full((64, 64), step % 200, np.uint8)
        (self.folder / "samples" / f"{step:07d}.png").write_bytes(png(grey))
        row = {"step": step, "kid": 100 / step, "diversity": 0.5, "images_per_second": 250.0}
        with (self.folder / "metrics.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        (self.folder / "log.txt").write_text(f"step {step}\n")
        progress = RunProgress(step=step, of=1000, eta_s=90.0, metrics=row)
        with self.database.session() as session:
            assert runs.record(session, self.id, OWNER, progress, f"step {step}\n" * 40)

    def end(self) -> None:
        with self.database.session() as session:
            assert runs.finish_run(session, self.id, OWNER)


@pytest.fixture
def data(live_database: Database) -> Iterator[str]:
    """A data version to name; nothing reads its images."""
    with live_database.session() as session:
        session.merge(data_version(DATA, name="images of the browser"))
    yield DATA
    with live_database.session() as session:
        session.execute(delete(Run).where(Run.data_sha256 == DATA))
        session.execute(delete(DataVersion).where(DataVersion.sha256 == DATA))


@pytest.fixture
def training(live_database: Database, live_home: Path, data: str) -> Training:
    """A GAN's training that a worker is at."""
    with live_database.session() as session:
        options: dict[str, Any] = {"data": data, "steps": 1000}
        run = create_run(session, "train-gan", options, requested_by="user:test")
        assert runs.claim(session, run.id, OWNER, 3600)
    return Training(live_database, run.id, live_home / "runs" / str(run.id))


def test_page_follows_a_run_to_its_end(console: Page, training: Training) -> None:
    training.tick(100)
    console.goto(training.url)
    expect(console.get_by_text("100 of 1,000")).to_be_visible()
    expect(console.get_by_text("This page follows the run")).to_be_visible()
    console.evaluate("() => { window.isTheSamePage = true; }")
    training.tick(200)
    expect(console.get_by_text("200 of 1,000")).to_be_visible()
    expect(console.get_by_alt_text("A grid of synthetic images after step 200")).to_be_visible()
    curve = console.get_by_role("img", name="KID from step 100 to 200: from 0.5 to 1, now 0.5")
    expect(curve).to_be_visible()
    training.end()
    expect(console.get_by_text("done", exact=True)).to_be_visible()
    expect(console.get_by_text("This page follows the run")).to_have_count(0)
    expect(console.get_by_role("button", name="Cancel")).to_have_count(0)
    assert console.evaluate("() => window.isTheSamePage")


def test_scrubber_keeps_its_place_while_grids_come(console: Page, training: Training) -> None:
    for step in (100, 200, 300):
        training.tick(step)
    console.goto(training.url)
    scrubber = console.get_by_role("slider", name="Samples over the training")
    expect(scrubber).to_have_value("2")
    scrubber.focus()
    scrubber.press("ArrowLeft")
    expect(console.get_by_alt_text("A grid of synthetic images after step 200")).to_be_visible()
    expect(scrubber).to_have_attribute("aria-valuetext", "step 200")
    training.tick(400)
    expect(scrubber).to_have_attribute("max", "3")
    expect(scrubber).to_have_value("1")
    expect(scrubber).to_be_focused()
    expect(console.get_by_alt_text("A grid of synthetic images after step 200")).to_be_visible()
    shown = "() => document.getElementById('sample-image').naturalWidth"
    assert console.evaluate(shown) == 64


def test_opened_parts_and_the_place_in_the_log_stay(console: Page, training: Training) -> None:
    training.tick(100)
    console.goto(training.url)
    console.get_by_text("Table of values").click()
    log = console.locator("#run-log")
    assert log.evaluate("(box) => box.scrollTop > 0")
    log.evaluate("(box) => { box.scrollTop = 10; }")
    training.tick(200)
    expect(log).to_contain_text("step 200")
    assert log.evaluate("(box) => box.scrollTop") == 10
    expect(console.get_by_role("row", name="200 0.5 0.5 250")).to_be_visible()


def test_page_without_events_looks_for_itself(
    console: Page, training: Training, faults: Faults
) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(status=503, body="too many")

    console.clock.install()
    console.route("**/events", refuse)
    training.tick(100)
    with console.expect_response("**/events"):
        console.goto(training.url)
    training.tick(200)
    console.clock.run_for(6000)
    expect(console.get_by_text("200 of 1,000")).to_be_visible()
    faults.expect("503")


def test_list_follows_its_runs(console: Page, training: Training) -> None:
    console.clock.install()
    training.tick(100)
    console.goto("/admin/runs?status=running")
    row = console.locator(".run-row", has=console.locator(f"a[href='{training.url}']"))
    expect(row).to_contain_text("100 of 1,000")
    training.tick(200)
    console.clock.run_for(6000)
    expect(row).to_contain_text("200 of 1,000")


def test_preset_fills_the_form_at_once_and_the_run_starts(
    console: Page, live_database: Database, data: str, faults: Faults
) -> None:
    console.goto("/admin/runs/new/train-gan")
    console.get_by_label("Preset").select_option("dcgan")
    expect(console.get_by_label("Loss function")).to_have_value("gan")
    console.get_by_text("more options").click()
    expect(console.get_by_label("Batch norm in the critic")).to_be_checked()
    console.locator("#option-data").select_option(data)
    console.get_by_label("Length").select_option("cpu-trial")
    expect(console.get_by_label("Loss function")).to_have_value("gan")
    expect(console.locator("#option-steps")).to_have_value("300")
    estimate = console.locator("#run-check")
    expect(estimate).to_contain_text("300 steps at 32 px")
    console.locator("#option-steps").fill("450")
    console.locator("#option-steps").blur()
    expect(estimate).to_contain_text("450 steps at 32 px")
    expect(estimate.get_by_label("The same on the command line")).to_have_value(
        re.compile("steps=450")
    )
    console.locator("#option-steps").fill("0")
    console.get_by_role("button", name="Start").click()
    expect(console.locator("#option-steps-fault")).to_be_visible()
    expect(console.get_by_label("Loss function")).to_have_value("gan")
    faults.expect("422")
    console.locator("#option-steps").fill("3")
    console.get_by_role("button", name="Start").click()
    console.wait_for_url(re.compile("/admin/runs/[0-9a-f-]{36}$"))
    expect(console.get_by_role("heading", level=1)).to_have_text("Train a GAN")
    with live_database.session() as session:
        run = runs.get_run(session, uuid.UUID(console.url.rpartition("/")[2]))
    assert (run.options["objective"], run.options["steps"]) == ("gan", 3)
    # Before the run is removed that the page follows.
    console.goto("about:blank")


def test_cancelled_run_can_be_resumed(console: Page, training: Training) -> None:
    console.goto(training.url)
    console.get_by_role("button", name="Cancel").click()
    expect(console.get_by_text("stopping", exact=True)).to_be_visible()
    with training.database.session() as session:
        assert runs.confirm_cancel(session, training.id, OWNER)
    expect(console.get_by_text("cancelled", exact=True)).to_be_visible()
    expect(console.get_by_role("button", name="Resume")).to_be_visible()


def test_everything_is_there_without_a_script(
    open_visitor: OpenVisitor, sign_in_admin: Callable[[Page], Page], training: Training
) -> None:
    for step in (100, 200):
        training.tick(step)
    page = sign_in_admin(open_visitor(java_script_enabled=False).new_page())
    page.goto(training.url)
    expect(page.get_by_alt_text("A grid of synthetic images after step 200")).to_be_visible()
    page.get_by_role("link", name="Earlier").click()
    expect(page.get_by_alt_text("A grid of synthetic images after step 100")).to_be_visible()
    training.tick(300)
    page.get_by_role("link", name="Reload").click()
    expect(page.get_by_text("300 of 1,000")).to_be_visible()
    page.goto("/admin/runs/new/train-gan")
    page.get_by_label("Preset").select_option("r3gan")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_label("Loss function")).to_have_value("r3gan")


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_no_page_of_runs_breaks_an_accessibility_rule(
    console: Page, training: Training, scheme: Any, width: int
) -> None:
    for step in (100, 200):
        training.tick(step)
    console.emulate_media(color_scheme=scheme)
    console.set_viewport_size({"width": width, "height": 900})
    for address in (
        "/admin/runs",
        "/admin/runs/new",
        "/admin/schedules/new/train-gan",
        training.url,
    ):
        console.goto(address)
        console.evaluate(OPEN_DETAILS)
        found = Axe().run(console, options=AXE_OPTIONS)
        assert found.violations_count == 0, f"{address}: {found.generate_report()}"
        wide = console.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= width, f"{address} is {wide} wide"
