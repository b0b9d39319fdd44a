"""The page of the system: workers, queue, disk and versions."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.accounts.dependencies import Admin
from app.core.disk_use import DiskMeter
from app.core.templating import page
from app.runs.system import (
    disk_meter,
    disk_view,
    first_queued,
    queue_views,
    versions,
    worker_views,
)
from app.services import CurrentServices, CurrentSession

router = APIRouter(prefix="/admin", include_in_schema=False)


@router.get("/system")
def system(
    request: Request, current: CurrentServices, opened: CurrentSession, _user: Admin
) -> HTMLResponse:
    """Workers, queue, disk and versions."""
    state = request.app.state
    if not isinstance(getattr(state, "disk_meter", None), DiskMeter):
        state.disk_meter = disk_meter(current)
    workers = worker_views(opened, current.settings)
    return page(
        request,
        "runs/system.html",
        workers=workers,
        queues=queue_views(opened, workers),
        queued=first_queued(opened),
        disk=disk_view(current.settings, state.disk_meter),
        versions=versions(opened, current),
    )
