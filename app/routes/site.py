"""Pages about the model and the API."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.deps import CurrentServices, CurrentSession, Services
from app.model_folders import SAMPLES
from app.model_views import GeneratorView
from app.models import ModelKind, ModelVersion
from app.pages import page
from app.quiz import realism
from app.registry import find_model, lineage, model_folder
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
    """The card of the model in service, or of any that is registered or has answered films."""
    active = current.classifier.card
    if active is not None and active.sha256 == sha256:
        shown = ModelView.of_card(active.as_json(), standing="The model in use")
        return page(request, "model.html", model=shown)
    row = find_model(opened, sha256)
    if row.kind is ModelKind.GENERATOR:
        return _generator(request, current, opened, row)
    standing = "A retired model" if row.retired_at else "A model that is not in use"
    return page(request, "model.html", model=ModelView.of_card(row.card, standing=standing))


def _generator(
    request: Request, current: Services, opened: Session, row: ModelVersion
) -> HTMLResponse:
    return page(
        request,
        "generator.html",
        model=GeneratorView.of(row),
        has_samples=(model_folder(current.settings, row) / SAMPLES).is_file(),
        classifiers=lineage(opened, row).children,
        realism=realism(opened, row.sha256),
    )


@router.get("/api")
def api_reference(request: Request, current: CurrentServices) -> HTMLResponse:
    """The API's reference, drawn from its OpenAPI document."""
    base = current.settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")
    return page(request, "api.html", openapi=request.app.openapi(), base_url=base)
