"""Sample images: shown on the start page, and screened with one click."""

from http import HTTPStatus

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, RedirectResponse

from app.core.admission import CallerKind
from app.core.errors import Conflict
from app.screenings.dependencies import OneTurn, WritingVisitor, remember
from app.screenings.samples import REFERENCE, find_sample
from app.screenings.service import SentLabels
from app.services import CurrentServices
from ml.texts import msg

router = APIRouter(include_in_schema=False)
_DAY = {"Cache-Control": "public, max-age=86400"}


@router.get("/samples/{name}.png")
def picture(name: str) -> FileResponse:
    """The image; the same for everybody."""
    return FileResponse(find_sample(name).file, headers=_DAY)


@router.post("/samples/{name}")
def screen(current: CurrentServices, owner: WritingVisitor, caller: OneTurn, name: str) -> Response:
    """Screen a sample as if the visitor had uploaded it.

    Raises:
        Conflict: by a user of a clinic, whose list and monitoring are of patients alone.
    """
    sample = find_sample(name)
    if owner.clinic_id:
        raise Conflict(
            msg(
                "Samples are for visitors. The list of a clinic holds images of its patients "
                "only: sign out to try a sample."
            )
        )
    address = caller.name if caller.kind is CallerKind.VISITOR else None
    with sample.file.open("rb") as image:
        row = current.screenings.screen(
            image, owner, SentLabels(REFERENCE), visitor_address=address
        )
    response = RedirectResponse(f"/screenings/{row.id}", HTTPStatus.SEE_OTHER)
    remember(response, owner, current.settings)
    return response
