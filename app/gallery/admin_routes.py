"""What admins do with images of the gallery: publish, hide, remove."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from app.accounts.dependencies import ActingAdmin
from app.core.errors import InvalidForm
from app.core.templating import page
from app.gallery.selected import PostedFields, SelectedIds
from app.gallery.visibility import VisibilityChange, change_visibility
from app.services import CurrentSession
from ml.texts import msg

router = APIRouter(prefix="/gallery", include_in_schema=False)


@router.post("/visibility")
def change_images(
    request: Request,
    opened: CurrentSession,
    user: ActingAdmin,
    fields: PostedFields,
    ids: SelectedIds,
) -> Response:
    """Publish, hide or remove the selected images; removing is confirmed on a page first."""
    words = fields.get("change", [""])
    if words[0] not in set(VisibilityChange):
        raise InvalidForm({"change": msg("Choose to publish, to hide or to remove the images.")})
    if not ids:
        raise InvalidForm({"images": msg("No image is selected. Select images first.")})
    change = VisibilityChange(words[0])
    if change is VisibilityChange.REMOVE and fields.get("confirmed") != ["yes"]:
        return page(request, "gallery/remove.html", ids=ids)
    change_visibility(opened, ids, change, by=user.actor)
    opened.commit()
    shown = "?shown=hidden" if change is VisibilityChange.HIDE else ""
    return RedirectResponse(f"/gallery{shown}", HTTPStatus.SEE_OTHER)
