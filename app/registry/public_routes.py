"""Pages about the model and the API."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.core.templating import page
from app.quiz.rounds import realism
from app.registry.card_views import GeneratorView, ModelView
from app.registry.files import SAMPLES, model_folder
from app.registry.queries import find_model, lineage
from app.registry.tables import ModelKind, ModelVersion
from app.services import CurrentServices, CurrentSession, Services

router = APIRouter(include_in_schema=False)


@router.get("/model")
def active_model(request: Request, current: CurrentServices) -> Response:
    """The card of the active model."""
    card = current.classifier.card
    if card is None:
        return page(request, "registry/classifier_card.html", model=None)
    return RedirectResponse(f"/models/{card.sha256}")


@router.get("/models/{sha256}")
def model(
    request: Request, sha256: str, current: CurrentServices, opened: CurrentSession
) -> HTMLResponse:
    """The card of the active model, or of any that is registered or has answered images."""
    active = current.classifier.card
    if active is not None and active.sha256 == sha256:
        shown = ModelView.of_card(active.as_json(), standing="The model in use")
        return page(request, "registry/classifier_card.html", model=shown)
    row = find_model(opened, sha256)
    if row.kind is ModelKind.GENERATOR:
        return _generator(request, current, opened, row)
    standing = "A archived model" if row.archived_at else "A model that is not in use"
    return page(
        request,
        "registry/classifier_card.html",
        model=ModelView.of_card(row.card, standing=standing),
    )


def _generator(
    request: Request, current: Services, opened: Session, row: ModelVersion
) -> HTMLResponse:
    return page(
        request,
        "registry/generator_card.html",
        model=GeneratorView.of(row),
        has_samples=(model_folder(current.settings, row) / SAMPLES).is_file(),
        classifiers=lineage(opened, row).children,
        realism=realism(opened, row.sha256),
    )
