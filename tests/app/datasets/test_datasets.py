"""Data versions: registered whole and once, shown with their lineage, made of what admins send."""

import csv
import errno
import io
import json
import os
import re
import shutil
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.core.audit import AuditEvent
from app.core.database import Database
from app.core.errors import InvalidForm, NotFound
from app.datasets.imports import LAYOUT_NAMES, clear_ended_imports, remove_unused_uploads
from app.datasets.tables import DataKind, DataVersion
from app.datasets.versions import (
    SHIPPED,
    data_folder,
    ensure_demonstration,
    find_data,
    list_data,
    register_data,
)
from app.registry.tables import ModelKind, ModelVersion
from app.runs import queue as runs
from app.runs.handlers.base import DATA_SET_FOLDER, Completion, Preparation
from app.runs.handlers.import_data import DATA_SET, ImportData, upload_folder
from app.runs.options import checked_options
from app.runs.program import write_options
from app.runs.service import create_run
from app.runs.tables import Run, RunStatus
from app.services import Services
from ml.commands.main import app as ml_app
from ml.data.importers.prepare import KINDS
from ml.data.manifest import COLUMNS, DEMONSTRATION, MANIFEST
from ml.data.versioning import freeze, verify_version
from ml.errors import DataError
from ml.labels import LABELS
from tests.support.images import png, synthetic_image

Folder = Callable[..., Path]
_count = iter(range(10**6))


def make_folder(
    folder: Path, images: int = 3, *, seed: int | None = None, source: str = "s"
) -> Path:
    """A frozen data set of small images, of other content each time unless a seed is given."""
    rng = np.random.default_rng(next(_count) if seed is None else [seed, 7])
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(images):
        image = f"images/{number}.png"
        (folder / image).write_bytes(png(synthetic_image(rng)))
        label = LABELS[number % len(LABELS)]
        rows.append({"image": image, "label": label, "source": source, "patient": f"p{number}"})
    write_rows(folder, rows)
    freeze(folder)
    return folder


def write_rows(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / MANIFEST).open("w", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / MANIFEST).open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def services(application: FastAPI) -> Services:
    found: Services = application.state.services
    return found


def register(
    services: Services, folder: Path, name: str = "Images", **options: object
) -> DataVersion:
    """Register a folder and commit."""
    kind = options.pop("kind", DataKind.IMAGES)
    with services.database.session() as session:
        return register_data(
            session,
            services.settings,
            folder,
            name=name,
            kind=kind,  # type: ignore[arg-type]
            by="user:someone",
            **options,  # type: ignore[arg-type]
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- registering ----------------------------------------------------------------------------------


def test_folder_from_elsewhere_is_copied_and_one_of_a_run_is_moved(
    services: Services, tmp_path: Path
) -> None:
    outside = make_folder(tmp_path / "set")
    before = contents(outside)
    version = register(services, outside, " Images  of spring ")
    assert (version.name, version.images, version.kind) == ("Images of spring", 3, DataKind.IMAGES)
    assert version.contents.sha256 == version.sha256
    folder = data_folder(services.settings, version)
    assert folder == services.settings.home.resolve() / "data" / version.sha256
    assert contents(folder) == before == contents(outside)

    inside = make_folder(services.settings.home / "runs" / str(uuid.uuid4()) / "set")
    before = contents(inside)
    moved = register(services, inside, run_id=uuid.uuid4(), parent_sha256=version.sha256)
    assert contents(data_folder(services.settings, moved)) == before
    assert not inside.exists()
    assert moved.parent_sha256 == version.sha256
    with services.database.sessions() as session:
        assert find_data(session, moved.sha256).run_id == moved.run_id
        listed = [one.sha256 for one in list_data(session)]
        assert listed.index(moved.sha256) < listed.index(version.sha256)
        of_generators = [one.sha256 for one in list_data(session, DataKind.SYNTHETIC)]
        assert moved.sha256 not in of_generators
        events = session.scalars(select(AuditEvent).where(AuditEvent.subject == moved.sha256))
        assert [(event.actor, event.action) for event in events] == [
            ("user:someone", "data.registered")
        ]


@pytest.mark.parametrize("fault", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
def test_images_of_a_run_are_registered_where_files_cannot_be_shared(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr("os.link", refuse)
    with services.database.session() as session:
        options = {"name": "Images", "kind": "folders", "corrections": True}
        run = create_run(session, "import-data", options, requested_by="test")
        run.status = RunStatus.RUNNING
    folder = services.settings.home / "runs" / str(run.id)
    images = contents(make_folder(folder / DATA_SET_FOLDER))
    with services.database.session() as session:
        result = ImportData().complete(Completion(session, services.settings, run, folder))
        version = find_data(session, result.data)
        runs.get_run(session, run.id).status = RunStatus.SUCCEEDED
    assert (
        contents(data_folder(services.settings, version))
        == contents(folder / DATA_SET_FOLDER)
        == images
    )


def test_same_content_again_is_the_version_that_is_there(
    services: Services, tmp_path: Path
) -> None:
    first = register(services, make_folder(tmp_path / "a", seed=1), "First")
    again = make_folder(services.settings.home / "again", seed=1)
    second = register(services, again, "Second", parent_sha256=first.sha256)
    assert second.sha256 == first.sha256
    assert (second.name, second.parent_sha256) == ("First", None)
    assert not again.exists()
    # Registered from its own place it stays there.
    assert register(services, data_folder(services.settings, first)).sha256 == first.sha256
    assert (data_folder(services.settings, first) / MANIFEST).is_file()


@pytest.mark.parametrize(
    "lose",
    [
        lambda folder: shutil.rmtree(folder),
        lambda folder: (folder / "images" / "1.png").unlink(),
        lambda folder: (folder / MANIFEST).write_text("cut sho"),
    ],
)
def test_registering_again_gives_a_version_its_lost_files_back(
    services: Services, tmp_path: Path, lose: Callable[[Path], object]
) -> None:
    outside = make_folder(tmp_path / "set")
    version = register(services, outside, "First")
    folder = data_folder(services.settings, version)
    whole = contents(folder)
    for source in (outside, services.settings.home / "runs" / str(uuid.uuid4())):
        if source != outside:
            shutil.copytree(outside, source)
        lose(folder)
        assert register(services, source, "Second").name == "First"
        assert contents(folder) == whole
    register(services, outside)
    with services.database.sessions() as session:
        query = select(AuditEvent.action).where(AuditEvent.subject == version.sha256)
        actions = list(session.scalars(query.order_by(AuditEvent.at)))
    assert actions == ["data.registered", "data.restored", "data.restored"]


def test_set_that_gained_nothing_is_not_its_own_parent(services: Services, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    sha256 = json.loads((folder / "summary.json").read_text())["sha256"]
    assert register(services, folder, parent_sha256=sha256).parent_sha256 is None


def test_what_a_crash_left_is_taken_over(services: Services, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    good = contents(folder)
    with services.database.sessions() as session:
        version = register_data(
            session, services.settings, folder, name="Images", kind=DataKind.IMAGES, by="test"
        )
        # The folder has its name already, and the row is not committed.
        left = data_folder(services.settings, version)
        assert contents(left) == good
        sha256 = version.sha256
        session.rollback()
    with services.database.sessions() as session, pytest.raises(NotFound):
        find_data(session, sha256)
    (left / MANIFEST).write_text("cut sho")
    (left / "images" / "stray.png").write_bytes(b"")
    assert register(services, folder).sha256 == sha256
    assert contents(left) == good


def test_many_at_once_make_one_version(
    services: Services, tmp_path: Path, database_url: str
) -> None:
    folders = [make_folder(tmp_path / str(number), seed=2) for number in range(6)]
    # Each with its own connections, as processes have.
    databases = [Database(database_url) for _ in folders]
    begin, made, problems = threading.Barrier(len(folders)), [], []

    def run(folder: Path, database: Database) -> None:
        begin.wait()
        try:
            with database.session() as session:
                version = register_data(
                    session, services.settings, folder, name="x", kind=DataKind.IMAGES, by="test"
                )
                made.append(version.sha256)
        except Exception as problem:
            problems.append(problem)

    threads = [
        threading.Thread(target=run, args=pair) for pair in zip(folders, databases, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        database.close()
    assert not problems
    assert len(set(made)) == 1
    assert len(made) == len(folders)
    with services.database.sessions() as session:
        version = find_data(session, made[0])
        events = session.scalars(select(AuditEvent).where(AuditEvent.subject == made[0])).all()
    assert len(events) == 1
    folder = data_folder(services.settings, version)
    assert contents(folder) == contents(folders[0])
    assert not list(folder.parent.glob(".copy-*"))


def test_folder_that_is_not_frozen_or_was_changed_or_has_no_name_is_refused(
    services: Services, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "a")
    for name in ("", "  ", "x" * 201):
        with pytest.raises(InvalidForm):
            register(services, folder, name)
    (folder / "images" / "0.png").write_bytes((folder / "images" / "1.png").read_bytes())
    with pytest.raises(DataError, match="changed after it was frozen"):
        register(services, folder)
    (folder / "summary.json").unlink()
    with pytest.raises(DataError, match="Freeze it first"):
        register(services, folder)
    assert not list((services.settings.home / "data").glob(".copy-*"))


def test_copy_that_a_crash_left_is_removed_after_a_day(services: Services, tmp_path: Path) -> None:
    place = services.settings.home / "data"
    old, young = place / ".copy-old", place / ".copy-young"
    for folder in (old, young):
        folder.mkdir(parents=True, exist_ok=True)
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    register(services, make_folder(tmp_path / "a"))
    assert not old.exists()
    assert young.exists()
    young.rmdir()


def test_demonstration_is_registered_once_and_marked(
    services: Services, admin: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "demonstration", source=DEMONSTRATION)
    monkeypatch.setattr("app.datasets.versions.SHIPPED", folder)
    with services.database.session() as session:
        first = ensure_demonstration(session, services.settings)
    rename_to = {"name": "To try things"}
    assert admin.post(f"/admin/data/{first.sha256}/name", data=rename_to).is_redirect
    with services.database.session() as session:
        again = ensure_demonstration(session, services.settings)
    assert (again.sha256, again.name) == (first.sha256, "To try things")
    kept = data_folder(services.settings, first)
    assert contents(kept) == contents(folder)
    shutil.rmtree(kept)
    with services.database.session() as session:
        assert ensure_demonstration(session, services.settings).name == "To try things"
    assert contents(kept) == contents(folder)
    listed = admin.get("/admin/data").text
    assert re.search(r'To try things</a> <span class="mark">demonstration</span>', listed)
    shown = admin.get(f"/admin/data/{first.sha256}").text
    assert "say nothing about patients" in shown


def test_demonstration_is_shipped_whole() -> None:
    summary = verify_version(SHIPPED)
    assert summary.demonstration == summary.images > 100
    # So that every job can be tried: each class is in each split.
    assert len(summary.by_split) == 3
    assert all(count for split in summary.by_split.values() for count in split.values())


# --- pages ----------------------------------------------------------------------------------------


def test_data_sets_are_for_admins_alone(
    services: Services,
    admin: TestClient,
    clinician: TestClient,
    visitor: TestClient,
    tmp_path: Path,
) -> None:
    version = register(services, make_folder(tmp_path / "a"))
    address = f"/admin/data/{version.sha256}"
    for path in ("/admin/data", "/admin/data/new", address, f"{address}/contact-sheet.jpg"):
        assert clinician.get(path).status_code == 403
        assert visitor.get(path).headers["location"].startswith("/sign-in")
    for path in ("/admin/data/new", f"{address}/name", f"{address}/quiz"):
        assert clinician.post(path, data={"name": "mine"}).status_code == 403
        assert visitor.post(path, data={"name": "mine"}).headers["location"].startswith("/sign-in")
        foreign = admin.post(path, data={"name": "x"}, headers={"origin": "https://else.example"})
        assert foreign.status_code == 403
    with services.database.sessions() as session:
        unchanged = find_data(session, version.sha256)
    assert (unchanged.name, unchanged.quiz_allowed) == ("Images", False)


def test_pages_of_versions(services: Services, admin: TestClient, tmp_path: Path) -> None:
    parent = register(services, make_folder(tmp_path / "a", 4), "Spring <1>")
    grown = tmp_path / "b"
    shutil.copytree(tmp_path / "a", grown)
    rows = read_rows(grown)
    # One image added, one removed, one relabelled.
    shutil.copy(grown / rows[0]["image"], grown / "images" / "new.png")
    (grown / "images" / "new.png").write_bytes(png(synthetic_image(np.random.default_rng(99))))
    rows.append(rows[0] | {"image": "images/new.png", "patient": "new"})
    rows[1]["label"] = LABELS[2]
    del rows[2]
    write_rows(grown, rows)
    freeze(grown)
    child = register(services, grown, "Summer", parent_sha256=parent.sha256)

    listed = admin.get("/admin/data").text
    assert listed.index("Summer") < listed.index("Spring &lt;1&gt;")
    shown = admin.get(f"/admin/data/{child.sha256}").text
    assert child.sha256 in shown
    assert f'href="/admin/data/{parent.sha256}">Spring &lt;1&gt;</a>' in shown
    changes = shown[shown.index("Changes since the parent version") :]
    changed = dict(
        re.findall(r'<th scope="row">([^<]+)</th><td>(\d</td><td>\d</td><td>\d)</td></tr>', changes)
    )
    assert {name: re.findall(r"\d", cells) for name, cells in changed.items()} == {
        "COVID-19": ["1", "0", "0"],
        "Pneumonia": ["0", "0", "0"],
        "Normal": ["0", "1", "1"],
    }
    assert f"/admin/data/{child.sha256}" in admin.get(f"/admin/data/{parent.sha256}").text
    assert admin.get(f"/admin/data/{'0' * 64}").status_code == 404
    assert admin.get("/admin/data/nonsense").status_code == 404


def test_contact_sheet_is_served_from_the_versions_folder(
    services: Services, admin: TestClient, tmp_path: Path
) -> None:
    version = register(services, make_folder(tmp_path / "a"))
    address = f"/admin/data/{version.sha256}/contact-sheet.jpg"
    assert address in admin.get(f"/admin/data/{version.sha256}").text
    sent = admin.get(address)
    assert sent.headers["content-type"] == "image/jpeg"
    assert sent.headers["cache-control"] == "private, no-store"
    assert sent.content.startswith(b"\xff\xd8")
    assert admin.get(f"/admin/data/{'0' * 64}/contact-sheet.jpg").status_code == 404


def test_lineage_names_runs_and_models(
    services: Services, admin: TestClient, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "a")
    with services.database.session() as session:
        maker = Run(run_type="import-data", options={}, queue="cpu", requested_by="test")
        session.add(maker)
        session.flush()
        maker_id = maker.id
    version = register(services, folder, run_id=maker_id)
    with services.database.session() as session:
        user = Run(
            run_type="train-gan",
            options={"data": version.sha256},
            queue="cpu",
            requested_by="test",
            data_sha256=version.sha256,
        )
        session.add(user)
        session.flush()
        model = ModelVersion(
            sha256=uuid.uuid4().hex * 2,
            kind=ModelKind.GENERATOR,
            version="lineage 7",
            card={},
            run_id=user.id,
        )
        session.add(model)
        user_id, model_sha256 = user.id, model.sha256
    shown = admin.get(f"/admin/data/{version.sha256}").text
    assert f"/admin/runs/{maker_id}" in shown
    assert f"/admin/runs/{user_id}" in shown
    assert f'href="/admin/models/{model_sha256}">generator lineage 7</a>' in shown


def test_name_and_quiz_can_be_changed(
    services: Services, admin: TestClient, tmp_path: Path
) -> None:
    version = register(services, make_folder(tmp_path / "a"))
    address = f"/admin/data/{version.sha256}"
    assert (
        admin.post(f"{address}/name", data={"name": " New  name "}).headers["location"] == address
    )
    refused = admin.post(f"{address}/name", data={"name": "x" * 201})
    assert refused.status_code == 422
    assert "1 to 200 characters" in refused.text
    assert admin.post(f"{address}/quiz", data={"allowed": "true"}).status_code == 303
    with services.database.sessions() as session:
        changed = find_data(session, version.sha256)
        events = session.scalars(select(AuditEvent).where(AuditEvent.subject == version.sha256))
        actions = {event.action for event in events if event.actor.startswith("user:admin")}
    assert (changed.name, changed.quiz_allowed) == ("New name", True)
    assert actions == {"data.renamed", "data.quiz-allowed"}
    admin.post(f"{address}/quiz", data={"allowed": "false"})
    with services.database.sessions() as session:
        assert not find_data(session, version.sha256).quiz_allowed


# --- imports --------------------------------------------------------------------------------------


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def newest_import(services: Services) -> Run | None:
    with services.database.sessions() as session:
        query = select(Run).where(Run.run_type == "import-data", Run.requested_by != "test")
        return session.scalar(query.order_by(Run.created_at.desc()).limit(1))


def staged(services: Services) -> list[Path]:
    return list(upload_folder(services.settings, "").glob("*"))


def order(**fields: str) -> dict[str, str]:
    return {"name": "Autumn images", "layout": "folders"} | fields


def test_layouts_are_those_that_can_be_imported() -> None:
    assert LAYOUT_NAMES.keys() == {*KINDS}
    assert DATA_SET in KINDS


def test_archive_is_uploaded_and_its_run_begins(
    services: Services, admin: TestClient, tmp_path: Path
) -> None:
    base = register(services, make_folder(tmp_path / "a"))
    assert (
        f'value="{base.sha256}" selected' in admin.get(f"/admin/data/new?base={base.sha256}").text
    )
    content = zipped(image=os.urandom(100_000))
    sent = admin.post(
        "/admin/data/new",
        data=order(base=base.sha256),
        files={"archive": ("../../etc/x.zip", content)},
    )
    run = newest_import(services)
    assert run
    assert (sent.status_code, sent.headers["location"]) == (303, f"/admin/runs/{run.id}")
    assert run.status is RunStatus.QUEUED
    assert {name: run.options[name] for name in ("name", "kind", "base", "folder")} == {
        "name": "Autumn images",
        "kind": "folders",
        "base": base.sha256,
        "folder": "",
    }
    (archive,) = upload_folder(services.settings, run.options["upload"]).iterdir()
    assert archive.name == "archive"
    assert archive.read_bytes() == content


def test_archive_that_is_no_data_set_is_refused_where_one_was_meant(
    services: Services, tmp_path: Path
) -> None:
    name = str(uuid.uuid4())
    staging = upload_folder(services.settings, name)
    staging.mkdir(parents=True)
    image = png(synthetic_image(np.random.default_rng(3)))
    (staging / "archive").write_bytes(zipped(**{"covid/a.png": image}))
    run = Run(run_type="import-data", options={}, queue="cpu")
    with services.database.sessions() as session:
        options = {"name": "x", "kind": DATA_SET, "upload": name}
        run.options = checked_options(session, run.run_type, options)
        flags = ImportData().prepare(Preparation(session, services.settings, run, tmp_path))
    file = write_options(run, tmp_path, {}, flags)
    answer = CliRunner().invoke(ml_app, ["data", "prepare", "--options", str(file)])
    assert "archive has no manifest.csv. Give the layout of its images" in str(answer.exception)
    shutil.rmtree(staging)


def test_folder_of_the_server_is_imported(
    services: Services, admin: TestClient, tmp_path: Path
) -> None:
    before = staged(services)
    make_folder(tmp_path / "images")
    sent = admin.post(
        "/admin/data/new",
        data=order(folder=str(tmp_path / "images"), layout=DATA_SET),
        files={"archive": ("", b"")},
    )
    run = newest_import(services)
    assert run
    assert sent.headers["location"] == f"/admin/runs/{run.id}"
    assert (run.options["folder"], run.options["upload"]) == (str(tmp_path / "images"), "")
    assert run.options["kind"] == DATA_SET
    assert staged(services) == before


@pytest.mark.parametrize(
    ("fields", "archive", "field"),
    [
        ({"name": " "}, zipped(a=b"image"), "name"),
        ({"layout": "heap"}, zipped(a=b"image"), "layout"),
        ({"base": "0" * 64}, zipped(a=b"image"), "base"),
        ({}, b"no archive " * 100, "archive"),
        ({}, None, "archive"),
        ({"folder": "/"}, zipped(a=b"image"), "folder"),
        ({"folder": "images"}, None, "folder"),
        ({"folder": "/no/such/folder"}, None, "folder"),
        ({"folder": "/"}, None, "folder"),
        ({"folder": "HOME/artefacts"}, None, "folder"),
        ({"folder": "HOME"}, None, "folder"),
        ({"folder": "EMPTY", "layout": DATA_SET}, None, "folder"),
    ],
)
def test_order_that_makes_no_sense_starts_nothing(
    services: Services,
    admin: TestClient,
    tmp_path: Path,
    fields: dict[str, str],
    archive: bytes | None,
    field: str,
) -> None:
    places = {"HOME": str(services.settings.home.resolve()), "EMPTY": str(tmp_path)}
    fields = {
        name: re.sub("HOME|EMPTY", lambda found: places[found[0]], value)
        for name, value in fields.items()
    }
    before = staged(services), newest_import(services)
    content = ("images.zip", archive) if archive else ("", b"")
    refused = admin.post("/admin/data/new", data=order(**fields), files={"archive": content})
    assert refused.status_code == 422
    assert re.findall(r'id="(\w+)-fault"', refused.text) == [field]
    assert [path.name for path in staged(services)] == [path.name for path in before[0]]
    after = newest_import(services)
    assert (after and after.id) == (before[1] and before[1].id)


def test_form_that_is_no_upload_is_refused_on_the_page(
    services: Services, admin: TestClient
) -> None:
    before = staged(services)
    refused = admin.post("/admin/data/new", data=order())
    assert refused.status_code == 400
    assert "not a multipart form" in refused.text
    assert 'name="archive"' in refused.text
    assert staged(services) == before


def test_uploads_without_a_run_are_removed(services: Services) -> None:
    folders = {
        name: upload_folder(services.settings, str(uuid.uuid4()))
        for name in ("waiting", "over", "stray", "arriving", "arriving slowly")
    }
    with services.database.session() as session:
        for name, status in {"waiting": RunStatus.QUEUED, "over": RunStatus.FAILED}.items():
            options = {"name": "x", "kind": "folders", "upload": folders[name].name}
            run = create_run(session, "import-data", options, requested_by="test")
            run.status = status
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        if name == "arriving slowly":
            (folder / "archive").touch()
        if name != "arriving":
            os.utime(folder, (time.time() - 7200,) * 2)
    # The server may be at it too: it does so at its start.
    assert remove_unused_uploads(services.database, services.settings) <= 2
    left = {name for name, folder in folders.items() if folder.exists()}
    assert left == {"waiting", "arriving", "arriving slowly"}
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)


def test_images_of_imports_that_ended_without_a_worker_are_removed(services: Services) -> None:
    kept = {RunStatus.QUEUED: True, RunStatus.RUNNING: True, RunStatus.CANCELLED: False}
    folders = {}
    with services.database.session() as session:
        for status in kept:
            options = {"name": "x", "kind": "folders", "corrections": True}
            run = create_run(session, "import-data", options, requested_by="test")
            run.status = status
            folders[status] = services.settings.home / "runs" / str(run.id) / "corrections"
            folders[status].mkdir(parents=True)
    clear_ended_imports(services.database, services.settings)
    assert {status: folder.exists() for status, folder in folders.items()} == kept
    with services.database.session() as session:
        for folder in folders.values():
            runs.get_run(session, uuid.UUID(folder.parent.name)).status = RunStatus.FAILED
