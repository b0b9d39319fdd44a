"""Pages about the model and the API."""

import re

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from app.deps import CurrentServices, CurrentSession
from app.errors import NotFound
from app.models import ModelVersion
from app.pages import page
from app.views import ModelView

router = APIRouter(include_in_schema=False)


@router.get("/model")
def active_model(request: Request, current: CurrentServices) -> Response:
    """The card of the model in service."""
    card = current.classifier.card
    if card is None:
        return page(request, "model.html", model=None)
    return RedirectResponse(f"/models/{card.sha256}")


@router.get("/models/{sha256}")
def model(
    request: Request, sha256: str, current: CurrentServices, opened: CurrentSession
) -> HTMLResponse:
    """The card of the model in service, or of one that has answered films here."""
    active = current.classifier.card
    if active is not None and active.sha256 == sha256:
        return page(request, "model.html", model=ModelView.of_card(active.as_json(), active=True))
    row = opened.get(ModelVersion, sha256) if re.fullmatch("[0-9a-f]{64}", sha256) else None
    if row is None:
        raise NotFound("no such model has answered films here")
    return page(request, "model.html", model=ModelView.of_card(row.card, active=False))


@router.get("/api")
def api_reference(request: Request, current: CurrentServices) -> HTMLResponse:
    """The API's reference, drawn from its OpenAPI document."""
    base = current.settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")
    return page(request, "api.html", openapi=request.app.openapi(), base_url=base)
