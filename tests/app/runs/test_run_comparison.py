"""Comparing runs: curves, options, samples and downloads."""

import csv
import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import delete
from starlette.testclient import TestClient

from app.runs.comparison import MOST_RUNS, smooth
from app.runs.files import run_folder
from app.runs.tables import Run, RunQueue, RunStatus
from app.services import Services

ROWS = {
    0: [(1, 4.0, 0.5), (2, 2.0, 0.6), (3, 1.0, 0.7)],
    1: [(1, 3.0, 0.4), (2, 0.0, 0.5), (3, 0.5, 0.9)],
}


@pytest.fixture
def services(application: FastAPI) -> Services:
    found: Services = application.state.services
    return found


@pytest.fixture
def compared(services: Services) -> Iterator[list[str]]:
    """Two runs with metrics and samples, and one that has not begun."""
    ids = [uuid.uuid4() for _ in range(3)]
    with services.database.session() as session:
        for number, run_id in enumerate(ids):
            session.add(
                Run(
                    id=run_id,
                    run_type="train-gan",
                    name=("=first", "second", "third")[number],
                    status=RunStatus.SUCCEEDED if number < 2 else RunStatus.QUEUED,
                    options={"size": 32, "seed": number},
                    requested_by="user:admin",
                    queue=RunQueue.CPU,
                )
            )
        session.commit()
    for number, rows in ROWS.items():
        folder = run_folder(services.settings, ids[number])
        (folder / "samples").mkdir(parents=True)
        (folder / "samples" / "3.png").write_bytes(b"no picture is opened here")
        write_metrics(folder, rows)
    yield [str(run_id) for run_id in ids]
    with services.database.session() as session:
        session.execute(delete(Run).where(Run.id.in_(ids)))
        session.commit()


def write_metrics(folder: Path, rows: list[tuple[int, float, float]]) -> None:
    lines = [json.dumps({"step": step, "loss": loss, "kid": kid}) for step, loss, kid in rows]
    (folder / "metrics.jsonl").write_text("\n".join(lines))


def address(ids: list[str], name: str = "compare", **more: str) -> str:
    pairs = [f"run={run_id}" for run_id in ids] + [f"{key}={value}" for key, value in more.items()]
    return f"/admin/runs/{name}?{'&'.join(pairs)}"


def test_page_shows_curves_differences_and_samples(admin: TestClient, compared: list[str]) -> None:
    text = admin.get(address(compared)).text
    assert "Compare 3 runs" in text
    # Both lines of the loss lie in one chart, on one scale from 0 to 4.
    assert 'points="0.0,0.0 150.0,60.0 300.0,90.0"' in text
    assert 'points="0.0,30.0 150.0,120.0 300.0,105.0"' in text
    differences = text.split("Options that differ")[1]
    assert "Random seed" in differences or "Seed" in differences
    assert "Size" not in differences
    assert "<td>32</td>" not in differences
    assert text.count("/samples/3.png") == 4


def test_logarithmic_scale_says_where_it_cannot_be(admin: TestClient, compared: list[str]) -> None:
    text = admin.get(address(compared, scale="log")).text
    # One loss is 0; every KID is above it.
    assert text.count("linear: not all values are above 0") == 1


def test_smoothed_curve_is_an_average_that_begins_at_the_first_value() -> None:
    points = [(1.0, 4.0), (2.0, 2.0), (3.0, 2.0)]
    assert smooth(points, 0) == points
    smoothed = [value for _, value in smooth(points, 0.5)]
    assert smoothed == pytest.approx([4.0, (0.5 * 4 + 2) / 1.5, (0.25 * 4 + 0.5 * 2 + 2) / 1.75])


def test_downloads_hold_every_value(admin: TestClient, compared: list[str]) -> None:
    answer = admin.get(address(compared, "compare.csv", smoothing="0.9"))
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["content-disposition"] == 'attachment; filename="runs.csv"'
    assert len(rows) == 12
    # A name that a spreadsheet would take for a formula.
    assert {row["name"] for row in rows} == {"'=first", "second"}
    losses = [
        float(row["value"]) for row in rows if (row["run"], row["metric"]) == (compared[1], "loss")
    ]
    assert losses == [3.0, 0.0, 0.5]
    found = admin.get(address(compared, "compare.json")).json()["runs"]
    assert [run["name"] for run in found] == ["=first", "second", "third"]
    assert found[0]["metrics"]["kid"] == [0.5, 0.6, 0.7]
    assert found[2]["metrics"] == {}


def test_a_run_can_be_taken_out(admin: TestClient, compared: list[str]) -> None:
    three = admin.get(address(compared)).text
    assert three.count(">Remove <") == 3
    assert admin.get(address(compared[:2])).text.count(">Remove <") == 0


def test_too_few_and_too_many_are_refused(admin: TestClient, compared: list[str]) -> None:
    for ids in (
        [],
        compared[:1],
        [compared[0]] * 2,
        [str(uuid.uuid4()) for _ in range(MOST_RUNS + 1)],
    ):
        answer = admin.get(address(ids))
        assert answer.status_code == 422
        assert f"Choose 2 to {MOST_RUNS} runs" in answer.text
    assert admin.get(address([compared[0], str(uuid.uuid4())])).status_code == 404


def test_list_offers_runs_to_compare(admin: TestClient, compared: list[str]) -> None:
    text = admin.get("/admin/runs").text
    assert all(f'value="{run_id}" form="compare-runs"' in text for run_id in compared)
    assert "Compare selected runs" in text
