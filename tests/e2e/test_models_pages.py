"""The models pages in a real browser: list, comparison, activation, rollback."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from app.core.database import Database
from app.datasets.tables import DataKind
from app.datasets.versions import register_data
from app.registry.activation import roll_back
from app.registry.comparisons import record_comparison
from app.registry.queries import list_models, serving_sha256
from app.registry.registration import register_classifier
from app.runs.tables import Run, RunQueue
from app.settings import Settings
from ml.classifier.bundle import CARD, PRETRAINED, read_card
from ml.data.manifest import MANIFEST
from ml.data.versioning import freeze
from ml.gan.onnx_generator import PRETRAINED as GENERATOR
from tests.e2e.conftest import OpenVisitor
from tests.e2e.test_pages import AXE_OPTIONS, OPEN_DETAILS, status_of
from tests.support.images import png, synthetic_image
from tests.support.served import wait_until
from tests.support.tiny_models import comparison_of, write_classifier, write_comparison

RELEASED = read_card(PRETRAINED)
GENERATOR_SHA256 = json.loads((GENERATOR / CARD).read_text(encoding="utf-8"))["sha256"]
IMAGES = 26  # more than a page of changed ones
BY = "user:somebody"
REASON = "it is faster, and the clinic agreed to the loss"


@dataclass(frozen=True)
class Candidate:
    """A classifier of the server's registry that was compared with the active one."""

    url: str
    comparison_url: str
    version: str


class Registry:
    """Puts models into the registry of the server."""

    def __init__(self, database: Database, settings: Settings, folder: Path):
        self._database, self._settings, self._folder = database, settings, folder

    def add(self, version: str, *, faults: list[str] | None = None) -> Candidate:
        """Register a classifier that calls every image normal, and a comparison of it."""
        folder = self._folder / version
        parents = {GENERATOR_SHA256: {"covid": 500, "pneumonia": 300, "normal": 200}}
        card = write_classifier(
            folder, version=version, answer="normal", size=64, synthetic=parents
        )
        data = self._images(version)
        found = comparison_of(card, RELEASED, faults=faults, changed=IMAGES)
        out = write_comparison(folder / "out", found)
        with self._database.session() as session:
            run = Run(
                run_type="train-classifier",
                options={},
                queue=RunQueue.CPU,
                requested_by=BY,
                data_sha256=data,
                status="succeeded",
            )
            session.add(run)
            session.flush()
            register_classifier(session, self._settings, folder, run=run, by=BY)
            comparison = record_comparison(session, out, run=run)
            url = f"/admin/models/{card.sha256}"
            return Candidate(url, f"{url}/compare/{comparison.id}", version)

    def _images(self, version: str) -> str:
        folder = self._folder / f"images of {version}"
        (folder / "images").mkdir(parents=True)
        rng = np.random.default_rng(len(version))
        lines = ["image,label,source,patient"]
        for place in range(IMAGES):
            image = synthetic_image(rng, 160 + place % 4 * 16, 144)
            (folder / f"images/{place}.png").write_bytes(png(image))
            lines.append(f"images/{place}.png,covid,clinic,p{place}")
        (folder / MANIFEST).write_text("\n".join(lines) + "\n")
        freeze(folder)
        with self._database.session() as session:
            return register_data(
                session,
                self._settings,
                folder,
                name=f"Images for {version}",
                kind=DataKind.IMAGES,
                by=BY,
            ).sha256

    def clear(self) -> None:
        """Have the released classifier active again, whatever a test left."""
        with self._database.session() as session:
            while serving_sha256(session, self._settings) != RELEASED.sha256:
                roll_back(session, self._settings, by=BY)


@pytest.fixture
def registry(live_database: Database, live_home: Path, tmp_path: Path) -> Iterator[Registry]:
    _wait_for_released(live_database)
    made = Registry(live_database, Settings(_env_file=None, home=live_home), tmp_path)
    yield made
    made.clear()


def _wait_for_released(database: Database) -> None:
    """The server registers what it came with after it listens."""

    def registered() -> bool:
        with database.sessions() as session:
            known = {model.sha256 for model in list_models(session)}
        return {RELEASED.sha256, GENERATOR_SHA256} <= known

    wait_until(registered)


def test_pages_of_models_are_good_pages(
    console: Page, registry: Registry, live_database: Database
) -> None:
    worse = f"Classifier 2 is worse than {RELEASED.version}: its accuracy is 0.050 lower."
    candidate = registry.add("pages-1", faults=[worse])
    with live_database.sessions() as session:
        assert GENERATOR_SHA256 in {model.sha256 for model in list_models(session)}
    addresses = (
        "/admin/models",
        candidate.url,
        candidate.comparison_url,
        f"/admin/models/{GENERATOR_SHA256}",
        f"/models/{GENERATOR_SHA256}",
        candidate.url.removeprefix("/admin"),
    )
    for number, address in enumerate(addresses):
        # By turns: each scheme has its page of each part.
        console.emulate_media(color_scheme=("light", "dark")[number % 2])  # type: ignore[arg-type]
        assert status_of(console, address) == 200, address
        console.evaluate(OPEN_DETAILS)
        for width in (1280, 390):
            console.set_viewport_size({"width": width, "height": 900})
            assert console.evaluate("document.documentElement.scrollWidth") <= width, address
        found = Axe().run(console, options=AXE_OPTIONS)
        assert not found.response["violations"], found.generate_report()


def test_classifier_goes_serving_sha256_and_back(
    console: Page, registry: Registry, images: list[Path], open_visitor: OpenVisitor
) -> None:
    candidate = registry.add("story-1")
    console.goto("/admin/models")
    console.get_by_role("link", name=candidate.version, exact=True).click()
    expect(console.get_by_text("Promotion checks: passed.")).to_be_visible()
    console.get_by_role("link", name="Details of the comparison").click()
    thumbnail = console.get_by_role("img", name="images/0.png").first
    thumbnail.scroll_into_view_if_needed()
    expect(thumbnail).to_have_js_property("complete", True)
    assert thumbnail.evaluate("(one) => one.naturalWidth") == 144
    console.get_by_role("link", name="Next").click()
    expect(console.get_by_text("Page 2 of 2")).to_be_visible()
    console.goto(candidate.url)
    console.get_by_role("button", name="Activate").click()
    expect(console.locator(".page-head .standing")).to_have_text("active")

    visitor = open_visitor().new_page()
    visitor.goto("/")
    visitor.set_input_files("#image", images[0])
    visitor.wait_for_url("**/screenings/*")
    expect(visitor.get_by_role("heading", level=1)).to_contain_text("Normal")
    expect(visitor.get_by_text(candidate.version).first).to_be_attached()

    console.goto("/admin/models")
    console.get_by_role("link", name=f"Roll back to classifier {RELEASED.version}").click()
    expect(console.get_by_role("row", name="Macro AUROC")).to_be_visible()
    console.get_by_role("button", name=f"Roll back to classifier {RELEASED.version}").click()
    expect(console.locator(".active-model-name")).to_contain_text(RELEASED.sha256[:12])
    visitor.goto("/model")
    expect(visitor).to_have_url(f"{visitor.url.split('/models')[0]}/models/{RELEASED.sha256}")


def test_shut_gate_opens_by_a_written_reason(console: Page, registry: Registry) -> None:
    candidate = registry.add("shut-1", faults=["Its accuracy is lower by 0.050."])
    console.goto(candidate.url)
    expect(console.get_by_text("Its accuracy is lower by 0.050.", exact=True)).to_be_visible()
    console.get_by_label("Reason for override").fill(REASON)
    console.get_by_role("button", name="Activate anyway").click()
    expect(console.locator(".page-head .standing")).to_have_text("active")
    console.goto("/admin/models")
    expect(console.locator(".active-model")).to_contain_text(REASON)
