"""The console: one router, to which each room adds its own."""

from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from app.accounts.dependencies import Admin

router = APIRouter(prefix="/admin", include_in_schema=False)


@router.get("")
def entrance(_user: Admin) -> RedirectResponse:
    """The console begins with its runs."""
    return RedirectResponse("/admin/runs", HTTPStatus.SEE_OTHER)
