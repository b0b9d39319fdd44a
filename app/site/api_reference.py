"""The API reference page."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.core.templating import page
from app.services import CurrentServices

router = APIRouter(include_in_schema=False)


@router.get("/api")
def api_reference(request: Request, current: CurrentServices) -> HTMLResponse:
    """The API's reference, drawn from its OpenAPI document."""
    base = current.settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")
    return page(request, "site/api.html", openapi=request.app.openapi(), base_url=base)
