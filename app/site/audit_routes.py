"""The audit log page."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse

from app.accounts.dependencies import Admin
from app.core.templating import page
from app.services import CurrentServices, CurrentSession
from app.site.audit_log import (
    KINDS,
    WITHOUT_SCREENINGS,
    AuditFilter,
    audit_csv,
    audit_entries,
    audit_page,
)
from ml.texts import msg

router = APIRouter(prefix="/admin", include_in_schema=False)


def audit_filter(
    about: Annotated[str, Query(max_length=100)] = "",
    kind: Annotated[str, Query(max_length=20)] = "",
    since: Annotated[str, Query(max_length=10)] = "",
    until: Annotated[str, Query(max_length=10)] = "",
) -> AuditFilter:
    """The filter in an address."""
    return AuditFilter.of(about, kind, since, until)


Chosen = Annotated[AuditFilter, Depends(audit_filter)]


@router.get("/audit")
def audit(
    request: Request,
    opened: CurrentSession,
    _user: Admin,
    chosen: Chosen,
    before: Annotated[str | None, Query(max_length=100)] = None,
) -> HTMLResponse:
    """What was done and by whom, newest first."""
    found = audit_page(opened, chosen, before)
    return page(
        request,
        "site/audit.html",
        events=audit_entries(opened, found.rows),
        chosen=chosen,
        kinds={"": msg("All"), WITHOUT_SCREENINGS: msg("All except screenings"), **KINDS},
        following=found.next_cursor,
    )


@router.get("/audit.csv")
def audit_export(current: CurrentServices, _user: Admin, chosen: Chosen) -> StreamingResponse:
    """The filtered log as a CSV file."""
    headers = {"Content-Disposition": 'attachment; filename="audit-log.csv"'}
    lines = audit_csv(current.database, chosen)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)
