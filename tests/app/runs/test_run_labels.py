"""Names, tags, notes and phases of runs; presets; deleting runs with their files."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import delete, select
from starlette.testclient import TestClient

from app.core.audit import AuditEvent
from app.core.database import Database, now
from app.registry.tables import ModelKind, ModelVersion
from app.runs.files import run_folder
from app.runs.labels import split_tags
from app.runs.phases import phases_of
from app.runs.presets import preset_of
from app.runs.tables import Run, RunQueue, RunStatus
from app.settings import Settings
from ml.option_fields import option_values
from ml.options.gan import GAN_PRESETS

MODEL = "8" * 64
NewRun = Callable[..., uuid.UUID]


@pytest.fixture
def database(application: FastAPI) -> Iterator[Database]:
    """A database without runs."""
    found: Database = application.state.services.database
    yield found
    with found.session() as session:
        session.execute(delete(ModelVersion).where(ModelVersion.sha256 == MODEL))
        session.execute(delete(Run))


@pytest.fixture
def new_run(database: Database) -> NewRun:
    """Makes a run of some values."""

    def make(**values: object) -> uuid.UUID:
        with database.session() as session:
            given = {"run_type": "train-gan", "options": {}, "queue": RunQueue.CPU} | values
            run = Run(id=uuid.uuid4(), requested_by="user:somebody", **given)
            session.add(run)
        return run.id

    return make


def test_run_gets_a_name_tags_and_notes_and_is_found_by_them(
    admin: TestClient, new_run: NewRun
) -> None:
    ours, other = new_run(), new_run()
    typed = {"name": "Baseline <1>", "tags": "gan, 64 px,gan ,", "notes": "learning rate halved"}
    assert admin.post(f"/admin/runs/{ours}/label", data=typed).is_redirect
    page = admin.get(f"/admin/runs/{ours}").text
    assert "<h1>Baseline &lt;1&gt;</h1>" in page
    assert "learning rate halved" in page
    for text in ("baseline", "64+px", "HALVED", "somebody"):
        listed = admin.get(f"/admin/runs?text={text}").text
        assert f"/admin/runs/{ours}" in listed
        assert (f"/admin/runs/{other}" in listed) is (text == "somebody")
    assert "No matching runs" in admin.get("/admin/runs?text=%25").text
    assert split_tags("a, b ,a,,") == ["a", "b"]


@pytest.mark.parametrize(
    "typed", [{"name": "x" * 101}, {"tags": "y" * 31}, {"tags": ",".join(map(str, range(200)))}]
)
def test_texts_that_are_too_long_are_refused(
    admin: TestClient, new_run: NewRun, typed: dict[str, str]
) -> None:
    refused = admin.post(f"/admin/runs/{new_run()}/label", data=typed)
    assert refused.status_code == 422
    assert "Enter " in refused.text


def test_only_admins_label_and_delete(
    visitor: TestClient, clinician: TestClient, admin: TestClient, new_run: NewRun
) -> None:
    run_id = new_run(status=RunStatus.FAILED)
    for act in ("label", "delete", "finish", "archive"):
        assert visitor.post(f"/admin/runs/{run_id}/{act}").status_code == 303
        assert clinician.post(f"/admin/runs/{run_id}/{act}").status_code == 403
        foreign = {"origin": "https://elsewhere.example"}
        assert admin.post(f"/admin/runs/{run_id}/{act}", headers=foreign).status_code == 403
    assert admin.get(f"/admin/runs/{run_id}").status_code == 200


def test_deleted_run_frees_its_disk_space_and_what_it_made_stays(
    admin: TestClient, database: Database, settings: Settings, new_run: NewRun
) -> None:
    run_id = new_run(status=RunStatus.SUCCEEDED, result={"generator": MODEL})
    folder = run_folder(settings, run_id)
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"0" * 3_000_000)
    with database.session() as session:
        model = ModelVersion(
            sha256=MODEL, kind=ModelKind.GENERATOR, version="kept", card={}, run_id=run_id
        )
        session.add(model)
    asked = admin.get(f"/admin/runs/{run_id}/delete").text
    assert "frees 3.0 MB" in asked
    assert "Models and data sets that it registered stay" in asked
    assert folder.exists()
    assert admin.post(f"/admin/runs/{run_id}/delete").headers["location"] == "/admin/runs"
    assert not folder.exists()
    assert admin.get(f"/admin/runs/{run_id}").status_code == 404
    with database.sessions() as session:
        assert session.get_one(ModelVersion, MODEL).run_id is None
        found = session.scalars(select(AuditEvent).where(AuditEvent.subject == str(run_id)))
        (event,) = [one for one in found if one.action == "run.deleted"]
    assert event.detail["freed_bytes"] == 3_000_000


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.RUNNING])
def test_run_that_has_not_ended_is_not_deleted(
    admin: TestClient, settings: Settings, new_run: NewRun, status: RunStatus
) -> None:
    run_id = new_run(status=status)
    run_folder(settings, run_id).mkdir(parents=True)
    assert admin.post(f"/admin/runs/{run_id}/delete").status_code == 409
    assert run_folder(settings, run_id).exists()
    assert "Delete this run" not in admin.get(f"/admin/runs/{run_id}").text


def test_phases_of_a_training_have_names_and_times(admin: TestClient, new_run: NewRun) -> None:
    start = now() - timedelta(seconds=200)
    times = {"first_step_at": start + timedelta(seconds=40)}
    times["last_step_at"] = start + timedelta(seconds=160)
    progress = {name: at.isoformat() for name, at in times.items()} | {"step": 1, "of": 1}
    live = {"status": RunStatus.RUNNING, "started_at": start}
    training = Run(run_type="train-classifier", progress=progress | {"of": 3}, **live)
    assert [(one.name, one.is_present) for one in phases_of(training)] == [
        ("Starting and reading images", False),
        ("Training", True),
    ]
    exporting = Run(run_type="train-classifier", progress=progress, **live)
    phases = phases_of(exporting)
    assert [one.name for one in phases][-1] == "Calibrating, measuring and exporting"
    assert [round(one.seconds) for one in phases][:2] == [40, 120]
    assert phases_of(Run(run_type="train-gan", progress={})) == []
    # After the last step no time is promised: the program still measures and exports.
    run_id = new_run(run_type="train-classifier", progress=progress | {"eta_s": 0.0}, **live)
    page = admin.get(f"/admin/runs/{run_id}").text
    assert "Calibrating, measuring and exporting" in page
    assert "Time remaining" not in page


def test_phases_that_the_program_enters_are_added_up_over_attempts(tmp_path: Path) -> None:
    start = now() - timedelta(minutes=10)
    run = Run(run_type="train-gan", status=RunStatus.RUNNING, started_at=start, progress={})
    entered = [("reading", 10), ("training", 30), ("reading", 90), ("training", 95), ("odd", 96)]
    entered.append(("measuring", 200))
    lines = [
        json.dumps({"phase": name, "at": (start + timedelta(seconds=at)).isoformat()})
        for name, at in entered
    ]
    (tmp_path / "phases.jsonl").write_text("\n".join(lines) + '\n{"phase": "expor')
    phases = phases_of(run, tmp_path)
    assert [(each.name, round(each.seconds)) for each in phases][:3] == [
        ("Starting", 10),
        ("Reading images", 25),
        ("Training", 60 + 105),
    ]
    assert [each.name for each in phases if each.is_present] == ["Measuring"]


def test_queued_run_says_how_many_start_before_it(admin: TestClient, new_run: NewRun) -> None:
    first, urgent, last = new_run(), new_run(priority=5), new_run()
    new_run(queue=RunQueue.GPU)
    for run_id, text in ((urgent, "Next in the queue"), (last, "2 queued runs start before")):
        assert text in admin.get(f"/admin/runs/{run_id}").text
    assert "1 queued run starts before" in admin.get(f"/admin/runs/{first}").text


def test_archived_run_is_listed_only_among_the_archived_ones(
    admin: TestClient, new_run: NewRun
) -> None:
    ended, running = new_run(status=RunStatus.FAILED), new_run(status=RunStatus.RUNNING)
    assert admin.post(f"/admin/runs/{running}/archive").status_code == 409
    assert admin.post(f"/admin/runs/{ended}/archive").is_redirect
    address = f"/admin/runs/{ended}"
    assert address not in admin.get("/admin/runs").text
    assert address in admin.get("/admin/runs?archived=true").text
    assert f"/admin/runs/{running}" not in admin.get("/admin/runs?archived=true").text
    assert "Restore from the archive" in admin.get(address).text
    assert admin.post(f"{address}/archive", data={"archived": "false"}).is_redirect
    assert address in admin.get("/admin/runs").text


def test_runs_are_sorted(admin: TestClient, new_run: NewRun) -> None:
    start = now() - timedelta(hours=1)
    ended = [
        new_run(
            status=RunStatus.SUCCEEDED,
            created_at=start + timedelta(minutes=number),
            finished_at=start + timedelta(minutes=30 - number),
        )
        for number in range(2)
    ]
    waiting = new_run()
    for order, expected in (
        ("newest", [waiting, ended[1], ended[0]]),
        ("oldest", [ended[0], ended[1], waiting]),
        ("finished", [ended[0], ended[1]]),
    ):
        page = admin.get(f"/admin/runs?order={order}").text
        assert re.findall(r'id="pick-([0-9a-f-]+)"', page) == list(map(str, expected))
    assert admin.get("/admin/runs?order=x").status_code == 422


def test_training_is_asked_to_stop_early_once_it_has_a_result(
    admin: TestClient, database: Database, new_run: NewRun
) -> None:
    live = {"status": RunStatus.RUNNING, "started_at": now()}
    run_id = new_run(progress={"step": 200, "of": 20_000}, **live)
    without_result = new_run(**live)
    evaluation = new_run(run_type="evaluate-gan", progress={"step": 1}, **live)
    for other in (without_result, evaluation):
        assert "Stop early" not in admin.get(f"/admin/runs/{other}").text
        assert admin.post(f"/admin/runs/{other}/finish").status_code == 409
    assert "Stop early and keep the best" in admin.get(f"/admin/runs/{run_id}").text
    assert admin.post(f"/admin/runs/{run_id}/finish").is_redirect
    page = admin.get(f"/admin/runs/{run_id}").text
    assert "Asked to stop early" in page
    assert "Stop early and keep the best" not in page
    with database.sessions() as session:
        assert session.get_one(Run, run_id).finish_requested_at


@pytest.mark.parametrize("preset", GAN_PRESETS)
def test_run_names_its_preset(preset: str) -> None:
    options = option_values(GAN_PRESETS[preset]) | {"size": 32, "steps": 77, "labels": "normal"}
    assert preset_of(Run(run_type="train-gan", options=options)) == preset
    changed = options | {"beta1": 0.123}
    assert preset_of(Run(run_type="train-gan", options=changed)) == f"{preset}, changed"
    assert preset_of(Run(run_type="import-data", options={})) == ""
