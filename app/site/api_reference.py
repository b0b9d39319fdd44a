"""The API reference page."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.core.addresses import site_address
from app.core.templating import page

router = APIRouter(include_in_schema=False)


@router.get("/api")
def api_reference(request: Request) -> HTMLResponse:
    """The API's reference, drawn from its OpenAPI document."""
    return page(
        request, "site/api.html", openapi=request.app.openapi(), base_url=site_address(request)
    )
