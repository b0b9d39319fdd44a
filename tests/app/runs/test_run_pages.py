"""The console's pages of runs, on each kind of database."""

import json
import re
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import anyio
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import delete, event, select
from starlette.testclient import TestClient

from app.accounts.tables import UserSession
from app.core.audit import AuditEvent
from app.core.database import now
from app.core.safe_files import file_in
from app.core.security import SESSION_COOKIE
from app.datasets.tables import DataKind, DataVersion
from app.main import create_app
from app.registry.tables import ModelKind, ModelVersion
from app.runs import broker
from app.runs import events as run_events
from app.runs import queue as runs
from app.runs.curves import MOST_POINTS, read_curves
from app.runs.events import STREAMS, follow, state_digest
from app.runs.files import run_folder
from app.runs.heartbeat import Heartbeat
from app.runs.run_types import RUN_TYPES
from app.runs.service import create_run
from app.runs.tables import Run, RunLane, RunQueue, RunStatus
from app.runs.views import duration, registered_by_each
from app.server import Server
from app.services import Services
from app.settings import Settings
from tests.support.console import FormReader
from tests.support.synthetic_set import data_version

DATA = "d" * 64
SYNTHETIC = "e" * 64
CLASSIFIERS = ("a" * 64, "b" * 64)
GENERATOR = "c" * 64


@pytest.fixture(autouse=True)
def notified(monkeypatch: pytest.MonkeyPatch) -> list[uuid.UUID]:
    """The runs that the workers were notified of."""
    heard: list[uuid.UUID] = []
    monkeypatch.setattr(broker, "_publish", lambda _settings, run: heard.append(run.id))
    return heard


@pytest.fixture
def services(application: FastAPI) -> Services:
    found: Services = application.state.services
    return found


@pytest.fixture
def registered(services: Services) -> Iterator[None]:
    """Something to work on, of every sort."""
    with services.database.session() as session:
        for sha256, kind in ((DATA, DataKind.IMAGES), (SYNTHETIC, DataKind.SYNTHETIC)):
            session.merge(data_version(sha256, kind, name=f"set {sha256[0]}"))
        for sha256 in (*CLASSIFIERS, GENERATOR):
            kind_of_model = ModelKind.GENERATOR if sha256 == GENERATOR else ModelKind.CLASSIFIER
            session.merge(
                ModelVersion(
                    sha256=sha256,
                    kind=kind_of_model,
                    version=f"v{sha256[0]}",
                    card={},
                    folder=f"models/{sha256}",
                    data_sha256=DATA,
                )
            )
    yield
    ours = (DATA, SYNTHETIC, *CLASSIFIERS, GENERATOR)
    with services.database.session() as session:
        session.execute(delete(Run))
        session.execute(delete(ModelVersion).where(ModelVersion.sha256.in_(ours)))
        session.execute(delete(DataVersion).where(DataVersion.sha256.in_(ours)))


@pytest.fixture
def new_run(services: Services, registered: None) -> Callable[..., uuid.UUID]:
    """Makes a run that waits."""

    def make(kind: str = "train-gan", **options: Any) -> uuid.UUID:
        with services.database.session() as session:
            run = create_run(session, kind, {"data": DATA} | options, requested_by="user:somebody")
        return run.id

    return make


def change(services: Services, run_id: uuid.UUID, **values: Any) -> Run:
    with services.database.session() as session:
        run = runs.get_run(session, run_id)
        for name, value in values.items():
            setattr(run, name, value)
    return run


def fetch(services: Services, run_id: uuid.UUID) -> Run:
    with services.database.session() as session:
        return runs.get_run(session, run_id)


# What a form cannot know beforehand.
_TYPED = {
    "evaluate-gan": {"generator": GENERATOR},
    "synthesize": {"generator": GENERATOR},
    "compare-classifiers": {"bundle": CLASSIFIERS[0], "reference": CLASSIFIERS[1]},
}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("kind", [name for name in RUN_TYPES if name != "import-data"])
def test_form_posted_as_it_comes_starts_a_run_with_the_defaults(
    admin: TestClient, services: Services, notified: list[uuid.UUID], kind: str
) -> None:
    page = admin.get(f"/admin/runs/new/{kind}")
    assert page.status_code == 200
    sent = FormReader(page.text).with_values(**_TYPED.get(kind, {}))
    answer = admin.post(f"/admin/runs/new/{kind}", data=sent)
    assert answer.status_code == 303, answer.text
    run_id = uuid.UUID(answer.headers["location"].rpartition("/")[2])
    run = fetch(services, run_id)
    defaults = RUN_TYPES[kind].Options()
    typed = _TYPED.get(kind, {})
    assert {name: run.options[name] for name in vars_of(defaults)} == {
        name: typed.get(name, value) for name, value in vars_of(defaults).items()
    }
    assert (run.run_type, run.status, run.queue) == (kind, RunStatus.QUEUED, RunQueue.CPU)
    assert run.requested_by.startswith("user:admin")
    assert notified == [run_id]
    assert admin.get(answer.headers["location"]).status_code == 200


def test_import_has_one_form(admin: TestClient, services: Services) -> None:
    for answer in (
        admin.get("/admin/runs/new/import-data"),
        admin.post("/admin/runs/new/import-data", data={"name": "x", "folder": "/somewhere"}),
    ):
        assert answer.status_code == 303
        assert answer.headers["location"] == "/admin/data/new"
    with services.database.session() as session:
        assert session.scalars(select(Run)).all() == []


def test_list_asks_for_results_of_all_runs_at_once(
    services: Services, new_run: Callable[..., uuid.UUID]
) -> None:
    made = [new_run() for _ in range(3)]
    for run_id in made:
        change(services, run_id, result={"generator": GENERATOR, "version": "vc"})
    queries: list[str] = []
    with services.database.session() as session:
        found = [runs.get_run(session, run_id) for run_id in made]
        # Of this session alone: the application asks in the background.
        counter = event.listens_for(session.connection(), "before_cursor_execute")
        counter(lambda _c, _k, statement, *_: queries.append(statement))
        links = registered_by_each(session, found)
    assert len([each for each in queries if each.startswith("SELECT")]) == 2
    assert [[link.name for link in links[run_id]] for run_id in made] == [["vc"]] * 3


def vars_of(options: object) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("registered")
def test_faults_stand_beside_their_fields_and_nothing_is_started(
    admin: TestClient, services: Services, notified: list[uuid.UUID]
) -> None:
    sent = FormReader(admin.get("/admin/runs/new/train-gan").text).with_values(
        steps="<b>many", size="1000", labels="<i>covid", clip=""
    )
    answer = admin.post("/admin/runs/new/train-gan", data=sent)
    assert answer.status_code == 422
    for name in ("steps", "size", "clip"):
        assert f'id="option-{name}-fault"' in answer.text
    assert 'value="&lt;b&gt;many"' in answer.text
    assert "<b>many" not in answer.text
    # Classes are check boxes: one that no data set has is not offered.
    assert "<i>covid" not in answer.text
    assert "Please correct the 3 fields marked below" in answer.text
    assert notified == []
    with services.database.session() as session:
        assert session.scalars(select(Run)).all() == []


@pytest.mark.usefixtures("registered")
def test_senseless_device_is_said_beside_it(admin: TestClient) -> None:
    sent = FormReader(admin.get("/admin/runs/new/train-gan").text).with_values(**{"run-queue": "x"})
    answer = admin.post("/admin/runs/new/train-gan", data=sent)
    assert answer.status_code == 422
    assert 'id="run-queue-fault"' in answer.text


@pytest.mark.usefixtures("registered")
def test_preset_fills_the_form_without_a_script(admin: TestClient) -> None:
    sent = dict(FormReader(admin.get("/admin/runs/new/train-gan?preset=dcgan").text).sent)
    assert (sent["objective"], sent["critic_steps"], sent["critic_norm"]) == ("gan", "1", "on")


def test_form_without_anything_to_work_on_says_what_to_do(
    admin: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.runs.forms.MOST_CHOICES", 0)
    page = admin.get("/admin/runs/new/synthesize").text
    assert 'href="/admin/runs/new/train-gan">There is no generator yet. Train a GAN' in page


def test_unknown_kind_is_not_found(admin: TestClient) -> None:
    assert admin.get("/admin/runs/new/train-cat").status_code == 404
    assert admin.post("/admin/runs/new/train-cat", data={}).status_code == 404


def test_kinds_are_listed_with_what_they_do(admin: TestClient) -> None:
    page = unescape(admin.get("/admin/runs/new").text)
    assert all(kind.title in page and kind.summary in page for kind in RUN_TYPES.values())


def test_earlier_run_fills_the_form(admin: TestClient, new_run: Callable[..., uuid.UUID]) -> None:
    run_id = new_run(steps=77, conditional=True, generator_norm=False)
    sent = dict(FormReader(admin.get(f"/admin/runs/new/train-gan?like={run_id}").text).sent)
    assert (sent["steps"], sent["conditional"], sent["data"]) == ("77", "on", DATA)
    assert "generator_norm" not in sent


@pytest.mark.usefixtures("registered")
def test_run_is_started_though_the_broker_does_not_answer(
    admin: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, has_answered = threading.Event(), threading.Event()

    def publish(_settings: Settings, _run: Run) -> None:
        answers.wait(100)
        has_answered.set()

    monkeypatch.setattr(broker, "_publish", publish)
    monkeypatch.setattr(broker, "NOTIFY_TIMEOUT_S", 0.3)
    sent = FormReader(admin.get("/admin/runs/new/train-gan").text).with_values()
    answer = admin.post("/admin/runs/new/train-gan", data=sent)
    assert not has_answered.is_set()
    answers.set()
    assert answer.status_code == 303
    with services.database.session() as session:
        assert session.scalars(select(Run.status)).all() == [RunStatus.QUEUED]


@pytest.mark.usefixtures("registered")
def test_form_of_another_site_starts_nothing(admin: TestClient, services: Services) -> None:
    sent = FormReader(admin.get("/admin/runs/new/train-gan").text).with_values()
    elsewhere = {"sec-fetch-site": "cross-site"}
    answer = admin.post("/admin/runs/new/train-gan", data=sent, headers=elsewhere)
    assert answer.status_code == 403
    with services.database.session() as session:
        assert session.scalars(select(Run)).all() == []


# --- who may see it -------------------------------------------------------------------------------

_PAGES = ("", "/new", "/new/train-gan", "/{id}", "/{id}/live", "/{id}/events", "/{id}/log")


@pytest.mark.parametrize("address", [*_PAGES, "/{id}/files/log.txt"])
def test_clinician_may_see_none_of_it(
    clinician: TestClient, new_run: Callable[..., uuid.UUID], address: str
) -> None:
    assert clinician.get("/admin/runs" + address.format(id=new_run())).status_code == 403


@pytest.mark.parametrize("address", [*_PAGES, "/{id}/files/log.txt"])
def test_visitor_is_sent_to_sign_in(
    visitor: TestClient, new_run: Callable[..., uuid.UUID], address: str
) -> None:
    answer = visitor.get("/admin/runs" + address.format(id=new_run()))
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in")


@pytest.mark.parametrize("address", ["/new/train-gan", "/{id}/cancel", "/{id}/resume"])
def test_clinician_changes_nothing(
    clinician: TestClient, services: Services, new_run: Callable[..., uuid.UUID], address: str
) -> None:
    run_id = new_run()
    assert clinician.post("/admin/runs" + address.format(id=run_id)).status_code == 403
    assert fetch(services, run_id).status is RunStatus.QUEUED


# --- the list -------------------------------------------------------------------------------------


def test_list_shows_how_far_each_run_is(
    admin: TestClient, services: Services, new_run: Callable[..., uuid.UUID]
) -> None:
    change(
        services,
        new_run(),
        status=RunStatus.RUNNING,
        progress={"step": 200, "of": 1000, "eta_s": 5000.0, "metrics": {}},
    )
    change(services, new_run(), status=RunStatus.FAILED, reason="<i>no luck")
    page = admin.get("/admin/runs").text
    assert "200 of 1,000, 1 h 23 min remaining" in page
    assert 'value="20.0"' in page
    assert "&lt;i&gt;no luck" in page
    assert "somebody" in page


def test_list_is_filtered_by_status_and_kind(
    admin: TestClient, services: Services, new_run: Callable[..., uuid.UUID]
) -> None:
    waiting, failed = new_run(), new_run("train-classifier")
    change(services, failed, status=RunStatus.FAILED)
    assert f"/admin/runs/{waiting}" in admin.get("/admin/runs?status=queued").text
    assert f"/admin/runs/{failed}" not in admin.get("/admin/runs?status=queued").text
    of_kind = admin.get("/admin/runs?kind=train-classifier").text
    assert f"/admin/runs/{failed}" in of_kind
    assert f"/admin/runs/{waiting}" not in of_kind
    assert f"/admin/runs/{waiting}" in admin.get("/admin/runs?status=nonsense").text


def test_pages_of_the_list_hold_each_run_once(
    admin: TestClient, new_run: Callable[..., uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.runs.views.PAGE_SIZE", 2)
    made = {str(new_run()) for _ in range(5)}
    address, seen = "/admin/runs", []
    while address:
        page = admin.get(address).text
        seen += [each for each in made if f'href="/admin/runs/{each}"' in page]
        _, _, rest = page.partition('href="/admin/runs?before=')
        address = f"/admin/runs?before={rest.partition(chr(34))[0]}" if rest else ""
    assert sorted(seen) == sorted(made)
    assert admin.get("/admin/runs?before=nonsense").status_code == 404


@pytest.mark.usefixtures("registered")
def test_form_is_checked_with_an_estimate_and_the_equal_command_and_starts_nothing(
    admin: TestClient, services: Services
) -> None:
    address = "/admin/runs/new/train-gan"
    page = admin.get(f"{address}?preset=dcgan&length=cpu-trial").text
    assert re.search(r'value="cpu-trial"[^>]* selected>Trial on a CPU, about \d+', page)
    assert 'value="gpu" disabled>GPU (no running worker has one)' in page
    sent = FormReader(page).with_values(data=DATA)
    checked = admin.post(address, data=sent | {"check": ["1"]})
    assert checked.status_code == 200
    text = unescape(checked.text)
    assert "300 steps at 32 px" in text
    assert "A rough estimate from small runs on one core of " in text
    command = f"xray run start train-gan --set data={DATA} --set objective=gan --set size=32"
    assert command in text
    with services.database.session() as session:
        assert session.scalars(select(Run)).all() == []
    # What is wrong is said as at the start of a run.
    for by, status in (("1", 422), ("script", 200)):
        wrong = admin.post(address, data=sent | {"check": [by], "steps": ["0"]})
        assert wrong.status_code == status
        assert "says how long the run is likely to take" in wrong.text
    assert admin.post(address, data=sent).status_code == 303
    with services.database.session() as session:
        (run,) = session.scalars(select(Run)).all()
    shown = unescape(admin.get(f"/admin/runs/{run.id}").text)
    assert command in shown
    assert "300 steps at 32 px" in shown


def test_nobody_at_work_is_said_and_a_live_worker_is_not_missed(
    admin: TestClient, settings: Settings
) -> None:
    heartbeat = Heartbeat(settings, list(RunQueue), list(RunLane), "")
    heartbeat.beat()
    assert "No worker is running" not in admin.get("/admin/runs").text
    (alive,) = (settings.home.resolve() / "workers").iterdir()
    long_ago = (now() - timedelta(hours=1)).isoformat()
    alive.write_text(json.dumps(json.loads(alive.read_text()) | {"seen_at": long_ago}))
    assert "No worker is running" in admin.get("/admin/runs").text
    heartbeat.end()
    assert not alive.exists()


# --- one run --------------------------------------------------------------------------------------


def write_run(settings: Settings, run_id: uuid.UUID) -> Path:
    """What a training has written after three ticks."""
    folder = run_folder(settings, run_id)
    (folder / "samples").mkdir(parents=True)
    for step in (200, 400, 600):
        (folder / "samples" / f"{step:07d}.png").write_bytes(b"\x89PNG")
    rows = [
        {"step": 200, "kid": 0.4, "loss": float("nan"), "seconds": 1.0},
        {"step": 400, "kid": 0.2, "loss": 2.0, "seconds": 2.0},
        {"step": 600, "kid": 0.3, "loss": 1.0, "seconds": 3.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "log.txt").write_text("step 200\n<script>alert(1)</script>\n")
    (folder / "report.html").write_text("<!doctype html><script>alert(1)</script>")
    return folder


def test_page_offers_every_file_with_results(
    admin: TestClient, settings: Settings, new_run: Callable[..., uuid.UUID]
) -> None:
    run_id = new_run()
    folder = write_run(settings, run_id)
    (folder / "left-out-reviewed.csv").write_text('file,reason\n"<b>.png",lies on its side\n')
    (folder / "left-out.csv").write_text("file,reason\n")
    for name in ("metrics.json", "run-options.json", "options.json", "state.pt", ".part.csv"):
        (folder / name).write_text("{}")
    (folder / "linked.json").symlink_to(settings.home)
    page = admin.get(f"/admin/runs/{run_id}").text
    address = f"/admin/runs/{run_id}/files/left-out-reviewed.csv"
    assert f'<a href="{address}">Reviewed images that were left out, with the reasons</a>' in page
    assert admin.get(address).text.endswith("lies on its side\n")
    offered = re.findall(r'class="run-download" href="[^"]*" download="([^"]*)"', page)
    # A table without rows, the files of the program and links are of no use.
    assert offered == ["report.html", "left-out-reviewed.csv", "metrics.json"]


def test_page_shows_curves_samples_log_and_report(
    admin: TestClient, settings: Settings, services: Services, new_run: Callable[..., uuid.UUID]
) -> None:
    run_id = new_run()
    write_run(settings, run_id)
    change(
        services, run_id, status=RunStatus.RUNNING, log_tail="<script>alert(1)</script>", attempts=2
    )
    page = admin.get(f"/admin/runs/{run_id}").text
    assert "KID from step 200 to 600: from 0.2 to 0.4, now 0.3" in page
    assert '<polyline class="plot-line" points="0.0,0.0 150.0,120.0 300.0,60.0"/>' in page
    assert "A grid of synthetic images after step 600" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert f"/admin/runs/{run_id}/files/report.html" in page
    assert "2 of at most 3" in page
    assert f'href="/admin/runs/{run_id}">Reload' in page


def test_earlier_grid_is_reached_by_a_plain_link(
    admin: TestClient, settings: Settings, new_run: Callable[..., uuid.UUID]
) -> None:
    run_id = new_run()
    write_run(settings, run_id)
    page = admin.get(f"/admin/runs/{run_id}?sample=400").text
    assert "A grid of synthetic images after step 400" in page
    assert f'rel="prev" href="/admin/runs/{run_id}?sample=200#run-samples"' in page
    assert f'rel="next" href="/admin/runs/{run_id}?sample=600#run-samples"' in page


def test_live_part_is_the_page_without_its_frame(
    admin: TestClient, settings: Settings, new_run: Callable[..., uuid.UUID]
) -> None:
    run_id = new_run()
    write_run(settings, run_id)
    part = admin.get(f"/admin/runs/{run_id}/live").text
    assert "<html" not in part
    assert part.count("data-live") == 7
    assert "after step 600" in part


def test_page_of_a_run_that_has_written_nothing(
    admin: TestClient, new_run: Callable[..., uuid.UUID]
) -> None:
    page = admin.get(f"/admin/runs/{new_run()}").text
    assert "queued" in page
    assert "<svg class" not in page.partition('id="run-state"')[2]


def test_unknown_run_is_not_found(admin: TestClient) -> None:
    for address in ("", "/live", "/log"):
        assert admin.get(f"/admin/runs/{uuid.uuid4()}{address}").status_code == 404
    assert admin.get("/admin/runs/nonsense").status_code == 404


def test_result_links_to_what_was_registered(
    admin: TestClient, services: Services, new_run: Callable[..., uuid.UUID]
) -> None:
    run_id = new_run()
    result = {"generator": GENERATOR, "version": "7", "images": 1000, "passed": True}
    change(services, run_id, status=RunStatus.SUCCEEDED, result=result)
    page = admin.get(f"/admin/runs/{run_id}").text
    assert f'Generator: <a href="/admin/models/{GENERATOR}">vc</a>' in page
    assert "<dt>Images</dt><dd>1,000</dd>" in page
    assert f'<a href="/admin/models/{GENERATOR}">' in admin.get("/admin/runs").text


def test_waiting_run_is_cancelled_and_goes_on(
    admin: TestClient,
    services: Services,
    new_run: Callable[..., uuid.UUID],
    notified: list[uuid.UUID],
) -> None:
    run_id = new_run()
    assert admin.post(f"/admin/runs/{run_id}/cancel").headers["location"] == f"/admin/runs/{run_id}"
    assert fetch(services, run_id).status is RunStatus.CANCELLED
    assert admin.post(f"/admin/runs/{run_id}/cancel").status_code == 409
    assert admin.post(f"/admin/runs/{run_id}/resume").status_code == 303
    assert fetch(services, run_id).status is RunStatus.QUEUED
    assert notified == [run_id]
    assert admin.post(f"/admin/runs/{run_id}/resume").status_code == 409
    with services.database.session() as session:
        told = select(AuditEvent.action).where(AuditEvent.subject == str(run_id))
        actions = session.scalars(told.order_by(AuditEvent.at)).all()
    assert actions == ["run.created", "run.cancelled", "run.resumed"]
    assert "resumed by admin" in admin.get(f"/admin/runs/{run_id}").text


def test_run_whose_upload_went_with_it_is_not_offered_to_go_on(
    admin: TestClient, services: Services, new_run: Callable[..., uuid.UUID]
) -> None:
    run_id = new_run()
    options = fetch(services, run_id).options
    for upload, offered in (("", True), (str(uuid.uuid4()), False)):
        change(services, run_id, status=RunStatus.FAILED, options=options | {"upload": upload})
        assert ('id="run-resume"' in admin.get(f"/admin/runs/{run_id}").text) is offered
    refused = admin.post(f"/admin/runs/{run_id}/resume")
    assert refused.status_code == 409
    assert "Upload it again" in refused.text


# --- files ----------------------------------------------------------------------------------------


def test_report_opens_in_a_sandbox(
    admin: TestClient, settings: Settings, new_run: Callable[..., uuid.UUID]
) -> None:
    run_id = new_run()
    write_run(settings, run_id)
    answer = admin.get(f"/admin/runs/{run_id}/files/report.html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_files_are_shown_as_what_they_are_or_downloaded(
    admin: TestClient, settings: Settings, new_run: Callable[..., uuid.UUID]
) -> None:
    run_id = new_run()
    folder = write_run(settings, run_id)
    (folder / "drawing.svg").write_text("<svg onload='alert(1)'/>")
    (folder / "checkpoint.pt").write_bytes(b"weights")
    files = f"/admin/runs/{run_id}/files"
    assert admin.get(f"{files}/samples/0000200.png").headers["content-type"] == "image/png"
    assert admin.get(f"{files}/metrics.jsonl").headers["content-type"].startswith("text/plain")
    for name in ("drawing.svg", "checkpoint.pt"):
        answer = admin.get(f"{files}/{name}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment")
    log = admin.get(f"/admin/runs/{run_id}/log")
    assert log.headers["content-disposition"].startswith("attachment")
    assert log.text == (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("samples/0000200.png", "private, max-age=86400"),
        ("set/images/image.png", "private, no-store"),
        ("set/samples/image.png", "private, no-store"),
        ("metrics.jsonl", "private, no-store"),
        ("report.html", "private, no-store"),
    ],
)
def test_browsers_keep_no_files_but_samples(
    admin: TestClient,
    settings: Settings,
    new_run: Callable[..., uuid.UUID],
    path: str,
    kept: str,
) -> None:
    run_id = new_run()
    folder = write_run(settings, run_id)
    for part in ("images", "samples"):
        (folder / "set" / part).mkdir(parents=True)
        (folder / "set" / part / "image.png").write_bytes(b"\x89PNG")
    answer = admin.get(f"/admin/runs/{run_id}/files/{path}")
    assert answer.headers["cache-control"] == kept


@pytest.mark.parametrize(
    "path",
    [
        "",
        "samples",
        "nothing.txt",
        "../secret.txt",
        "..%2Fsecret.txt",
        "samples/../../secret.txt",
        "%2Fetc%2Fpasswd",
        "link.txt",
        "linked/secret.txt",
        "a%00b",
        "a" * 5000,
    ],
)
def test_nothing_outside_the_folder_is_served(
    admin: TestClient, settings: Settings, new_run: Callable[..., uuid.UUID], path: str
) -> None:
    run_id = new_run()
    folder = write_run(settings, run_id)
    outside = folder.parent / "secret.txt"
    outside.write_text("secret")
    (folder / "link.txt").symlink_to(outside)
    (folder / "linked").symlink_to(folder.parent)
    answer = admin.get(f"/admin/runs/{run_id}/files/{path}")
    assert answer.status_code == 404
    assert "secret\n" not in answer.text


def test_file_of_a_linked_home_is_found(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "log.txt").touch()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    assert file_in(tmp_path / "runs", "log.txt") == tmp_path / "disk" / "log.txt"


# --- metrics --------------------------------------------------------------------------------------


def test_long_run_is_thinned_to_its_first_and_last_row(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"step": step, "kid": 1 / step}) + "\n" for step in range(1, 5001))
    (tmp_path / "metrics.jsonl").write_text(rows)
    curves = read_curves(tmp_path)
    assert curves
    (curve,) = curves.curves
    points = curve.points.split()
    assert len(points) == MOST_POINTS
    assert (points[0], points[-1].partition(",")[0]) == ("0.0,0.0", "300.0")
    assert (curves.first, curves.last) == ("1", "5,000")
    assert curves.rows[-1] == ("5,000", ["0.0002"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json\n",
        '{"step": 1',
        "[1, 2]\n",
        '{"step": "x", "kid": 1}\n',
        '{"kid": 1}\n',
        "\xff\n",
    ],
)
def test_file_that_holds_no_metrics_has_no_curves(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(text.encode("latin-1"))
    assert read_curves(tmp_path) is None


def test_metric_that_is_no_number_leaves_a_gap(tmp_path: Path) -> None:
    text = '{"step": 1, "kid": NaN, "note": "x"}\n{"step": 2, "kid": 5}\n{"step": 3, "kid": nul'
    (tmp_path / "metrics.jsonl").write_text(text)
    curves = read_curves(tmp_path)
    assert curves
    # One point is no curve; the table has it.
    assert curves.curves == []
    assert curves.rows == [("1", ["none"]), ("2", ["5"])]


def test_total_and_single_points_are_no_curves(tmp_path: Path) -> None:
    rows = ({"done": 45, "of": 111, "images_per_second": 3.0}, {"done": 111, "of": 111})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text)
    curves = read_curves(tmp_path)
    assert curves
    assert (curves.axis, curves.curves) == ("done", [])
    assert "Of" not in curves.columns


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (90, "2 min"),
        (3570, "1 h 0 min"),
        (5000, "1 h 23 min"),
        (200_000, "2 days 7 h"),
    ],
)
def test_duration_is_told_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- events ---------------------------------------------------------------------------------------


def test_stream_of_a_run_that_is_over_says_so_and_ends(
    admin: TestClient, services: Services, new_run: Callable[..., uuid.UUID]
) -> None:
    run_id = new_run()
    change(services, run_id, status=RunStatus.FAILED, reason="no luck")
    answer = admin.get(f"/admin/runs/{run_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "event: changed" in answer.text
    assert answer.text.endswith("event: over\ndata: \n\n")
    mark = answer.text.partition("id: ")[2].partition("\n")[0]
    again = admin.get(f"/admin/runs/{run_id}/events", headers={"last-event-id": mark})
    assert "changed" not in again.text
    assert STREAMS.open == 0


async def _events(
    services: Services, run_id: uuid.UUID, token: str, act: dict[int, Any]
) -> list[str]:
    """The events of a run's stream, acting after some of them."""
    heard: list[str] = []
    with anyio.fail_after(20):
        async for event in follow(services, run_id, token, None):
            heard.append(str(event.event))
            if after := act.get(len(heard)):
                await anyio.to_thread.run_sync(after)
    return heard


def test_stream_tells_of_a_new_metric_a_new_grid_and_the_end(
    admin: TestClient,
    services: Services,
    new_run: Callable[..., uuid.UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_events, "LOOK_EVERY_S", 0.01)
    run_id, token = new_run(), admin.cookies[SESSION_COOKIE]
    folder = run_folder(services.settings, run_id)

    def write() -> None:
        (folder / "samples").mkdir(parents=True)

    def end() -> None:
        change(services, run_id, status=RunStatus.SUCCEEDED)

    heard = anyio.run(_events, services, run_id, token, {1: write, 2: end})
    assert heard == ["changed", "changed", "changed", "over"]


def test_stream_ends_when_the_admin_is_signed_out(
    admin: TestClient,
    services: Services,
    new_run: Callable[..., uuid.UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_events, "LOOK_EVERY_S", 0.01)

    def sign_out() -> None:
        with services.database.session() as session:
            session.execute(delete(UserSession))

    run_id, token = new_run(), admin.cookies[SESSION_COOKIE]
    assert anyio.run(_events, services, run_id, token, {1: sign_out}) == ["changed"]


def test_stream_ends_when_the_server_is_told_to_go(
    admin: TestClient,
    services: Services,
    new_run: Callable[..., uuid.UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_events, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(STREAMS, "closing", False)
    run_id, token = new_run(), admin.cookies[SESSION_COOKIE]
    assert anyio.run(_events, services, run_id, token, {1: STREAMS.close}) == ["changed"]


def test_server_that_is_told_to_end_does_not_wait_for_streams(
    admin: TestClient,
    settings: Settings,
    new_run: Callable[..., uuid.UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(STREAMS, "closing", False)
    options = {"host": "127.0.0.1", "port": 0, "log_level": "warning", "http": "h11"}
    server = Server(uvicorn.Config(create_app(settings), **options))  # type: ignore[arg-type]
    serving = threading.Thread(target=server.run)
    serving.start()
    while not server.started and serving.is_alive():
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    cookie = {"Cookie": f"{SESSION_COOKIE}={admin.cookies[SESSION_COOKIE]}"}
    address = f"http://127.0.0.1:{port}/admin/runs/{new_run()}/events"
    with urlopen(Request(address, headers=cookie), timeout=60) as stream:
        assert stream.readline() == b"event: changed\n"
        server.handle_exit(signal.SIGTERM, None)
        serving.join(60)
    assert not serving.is_alive()


def test_stream_beyond_the_bound_is_refused(
    admin: TestClient, new_run: Callable[..., uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STREAMS, "open", STREAMS.most)
    answer = admin.get(f"/admin/runs/{new_run()}/events")
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


def test_waiting_stream_holds_no_connection(
    admin: TestClient,
    services: Services,
    new_run: Callable[..., uuid.UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_events, "LOOK_EVERY_S", 3600)
    run_id, token = new_run(), admin.cookies[SESSION_COOKIE]

    async def wait() -> int:
        stream = follow(services, run_id, token, None)
        await anext(stream)
        held = 0
        with anyio.move_on_after(0.2):
            await anext(stream)
        held = services.database.engine.pool.checkedout()  # type: ignore[attr-defined]
        await stream.aclose()  # type: ignore[attr-defined]
        return held

    assert anyio.run(wait) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"status": RunStatus.RUNNING},
        {"attempts": 1},
        {"progress": {"step": 1}},
        {"reason": "x"},
        {"log_tail": "x"},
        {"result": {"a": 1}},
    ],
)
def test_whatever_the_page_shows_changes_the_mark(values: dict[str, Any]) -> None:
    plain: dict[str, Any] = {
        "status": RunStatus.QUEUED,
        "attempts": 0,
        "progress": {},
        "reason": None,
        "result": {},
        "lease_owner": None,
        "cancel_requested_at": None,
        "log_tail": "",
    }
    before: Any = SimpleNamespace(**plain)
    after: Any = SimpleNamespace(**(plain | values))
    assert state_digest(before, [1]) != state_digest(after, [1])
    assert state_digest(before, [1]) != state_digest(before, [2])
    assert state_digest(before, [1]) == state_digest(before, [1])
