"""The page that compares runs, and what it downloads."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from app.accounts.dependencies import Admin
from app.core.templating import page
from app.runs.comparison import (
    ComparedRun,
    charts_of,
    csv_of,
    export_of,
    load_runs,
    option_differences,
)
from app.services import CurrentServices, CurrentSession
from ml.texts import msg

# Before the routes of a single run: "compare" is no run's id.
router = APIRouter(prefix="/admin/runs", include_in_schema=False)
_FOLDER = "/admin/runs"
SMOOTHING = {"0": msg("None"), "0.6": msg("Light"), "0.9": msg("Strong")}


def _chosen(
    current: CurrentServices,
    opened: CurrentSession,
    _user: Admin,
    run: Annotated[list[uuid.UUID], Query(default_factory=list)],
) -> list[ComparedRun]:
    return load_runs(opened, current.settings, run)


Compared = Annotated[list[ComparedRun], Depends(_chosen)]


@router.get("/compare")
def compare(
    request: Request,
    compared: Compared,
    smoothing: Literal["0", "0.6", "0.9"] = "0",
    scale: Literal["linear", "log"] = "linear",
) -> HTMLResponse:
    """Curves, options and samples of several runs, side by side."""
    return page(
        request,
        "runs/compare.html",
        runs=compared,
        charts=charts_of(compared, smoothing=float(smoothing), log=scale == "log"),
        differences=option_differences(compared),
        smoothings=SMOOTHING,
        smoothing=smoothing,
        scale=scale,
        query=_query(compared),
        without={run.number: _without(compared, run) for run in compared},
    )


@router.get("/compare.csv")
def download_csv(compared: Compared) -> StreamingResponse:
    """All values of the compared runs, one in a line."""
    headers = {"Content-Disposition": 'attachment; filename="runs.csv"'}
    return StreamingResponse(
        csv_of(compared), media_type="text/csv; charset=utf-8", headers=headers
    )


@router.get("/compare.json")
def download_json(compared: Compared) -> JSONResponse:
    """Values and options of the compared runs."""
    headers = {"Content-Disposition": 'attachment; filename="runs.json"'}
    return JSONResponse(export_of(compared).as_json(), headers=headers)


def _query(compared: Sequence[ComparedRun]) -> str:
    return urlencode([("run", str(run.summary.id)) for run in compared])


def _without(compared: Sequence[ComparedRun], left_away: ComparedRun) -> str:
    """The same comparison without a run; empty where two would not remain."""
    rest = [run for run in compared if run is not left_away]
    return f"{_FOLDER}/compare?{_query(rest)}" if len(rest) > 1 else ""
