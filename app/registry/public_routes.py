"""The public cards of models."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.core.templating import page
from app.quiz.rounds import realism
from app.registry.card_views import ClassifierCardView, GeneratorCardView
from app.registry.files import SAMPLES, model_folder
from app.registry.queries import find_model, lineage
from app.registry.tables import ModelKind, ModelVersion
from app.registry.trust_views import TrustView
from app.services import CurrentServices, CurrentSession, Services
from ml.texts import msg

router = APIRouter(include_in_schema=False)


@router.get("/model")
def active_model(request: Request, current: CurrentServices) -> Response:
    """Redirect to the card of the active classifier."""
    card = current.classifier.card
    if card is None:
        return page(request, "registry/classifier_card.html", model=None)
    return RedirectResponse(f"/models/{card.sha256}")


@router.get("/trust")
def trust(request: Request, current: CurrentServices, opened: CurrentSession) -> HTMLResponse:
    """How far the active classifier can be trusted."""
    card = current.classifier.card
    shown = TrustView.of(opened, current.settings, card) if card else None
    return page(request, "registry/trust.html", trust=shown)


@router.get("/models/{sha256}")
def model(
    request: Request, sha256: str, current: CurrentServices, opened: CurrentSession
) -> HTMLResponse:
    """The card of the active classifier, or of any model that is or was registered here."""
    active = current.classifier.card
    if active is not None and active.sha256 == sha256:
        shown = ClassifierCardView.of(active, status=msg("The active classifier"))
        return page(request, "registry/classifier_card.html", model=shown)
    row = find_model(opened, sha256)
    if row.kind is ModelKind.GENERATOR:
        return _generator(request, current, opened, row)
    status = (
        msg("An archived classifier") if row.archived_at else msg("A classifier that is not active")
    )
    shown = ClassifierCardView.of(row.classifier_card, status=status)
    return page(request, "registry/classifier_card.html", model=shown)


def _generator(
    request: Request, current: Services, opened: Session, row: ModelVersion
) -> HTMLResponse:
    return page(
        request,
        "registry/generator_card.html",
        model=GeneratorCardView.of(row),
        has_samples=(model_folder(current.settings, row) / SAMPLES).is_file(),
        classifiers=lineage(opened, row).children,
        realism=realism(opened, row.sha256),
    )
