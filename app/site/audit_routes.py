"""The audit log page."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.accounts.dependencies import Admin
from app.core.audit import audit_page
from app.core.templating import page
from app.services import CurrentSession

router = APIRouter(prefix="/admin", include_in_schema=False)


@router.get("/audit")
def audit(
    request: Request,
    opened: CurrentSession,
    _user: Admin,
    about: Annotated[str, Query(max_length=100)] = "",
    before: Annotated[str | None, Query(max_length=100)] = None,
) -> HTMLResponse:
    """What was done and by whom, newest first."""
    found = audit_page(opened, about.strip(), before)
    return page(
        request,
        "site/audit.html",
        events=found.rows,
        about=about.strip(),
        following=found.next_cursor,
    )
