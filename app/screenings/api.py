"""The REST API for clinics, under /api/v1."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from app.accounts.dependencies import CurrentClinic
from app.core.errors import NotFound
from app.screenings.dependencies import ClinicImage, ClinicScreening
from app.screenings.filters import LONGEST_REFERENCE, Filtered, checked_reference
from app.screenings.queries import PAGE_SIZE, screenings_page
from app.screenings.reviews import SentReview, newest_review, review, review_choices
from app.screenings.schemas import Problem, ReviewIn, ReviewOut, ScreeningOut, ScreeningPage
from app.screenings.service import SentLabels
from app.screenings.uploads import BOUNDED_BY_READER
from app.screenings.views import heatmap_of
from app.services import CurrentServices, CurrentSession

router = APIRouter(prefix="/api/v1", tags=["screenings"])


def _problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    return {
        int(status): {
            "description": status.phrase,
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
        for status in statuses
    }


_OF_A_SCREENING = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {
                            "type": "string",
                            "format": "binary",
                            "description": "A chest X-ray: PNG, JPEG, TIFF, WebP or DICOM.",
                        },
                        "reference": {
                            "type": "string",
                            "maxLength": LONGEST_REFERENCE,
                            "description": "Your own name of the image, to find it again. It is "
                            "stored as it is: do not send a patient's name.",
                        },
                    },
                }
            }
        },
    }
}


@router.post(
    "/screenings",
    status_code=HTTPStatus.CREATED,
    response_model=ScreeningOut,
    summary="Screen an image",
    max_body_size=BOUNDED_BY_READER,
    responses=_problems(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.INSUFFICIENT_STORAGE,
    ),
    openapi_extra=_FORM,
)
def create(
    response: Response,
    current: CurrentServices,
    owner: CurrentClinic,
    form: ClinicImage,
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=100,
            description="Your name of this request. If you repeat it, for example after a "
            "timeout, you get the screening that was made the first time.",
        ),
    ] = None,
) -> ScreeningOut:
    """Send one image in the multipart field `image`; its prediction is stored."""
    labels = SentLabels(checked_reference(form.fields.get("reference", "")), idempotency_key)
    row = current.screenings.screen(form.images[0].file, owner, labels)
    response.headers["Location"] = f"/api/v1/screenings/{row.id}"
    return ScreeningOut.of(row)


@router.get(
    "/screenings",
    summary="List screenings",
    responses=_problems(*_OF_A_SCREENING),
)
def index(
    opened: CurrentSession,
    owner: CurrentClinic,
    chosen: Filtered,
    limit: Annotated[int, Query(ge=1, le=200, description="Screenings of a page.")] = PAGE_SIZE,
    before: Annotated[
        str | None, Query(max_length=100, description="From `next` of the page before.")
    ] = None,
) -> ScreeningPage:
    """The clinic's screenings, newest first, all or filtered."""
    found = screenings_page(opened, owner, before, limit, chosen=chosen)
    following = {"before": found.next_cursor, "limit": "" if limit == PAGE_SIZE else limit}
    return ScreeningPage(
        screenings=[ScreeningOut.of(row) for row in found.rows],
        next=chosen.address("/api/v1/screenings", **following) if found.next_cursor else None,
    )


@router.get(
    "/screenings/{id}",
    summary="Read a screening",
    responses=_problems(*_OF_A_SCREENING),
)
def show(screening: ClinicScreening) -> ScreeningOut:
    """A screening of the clinic that the key belongs to."""
    return ScreeningOut.of(screening)


@router.get(
    "/screenings/{id}/heatmap.png",
    summary="Get a heat map",
    response_class=Response,
    responses={
        200: {
            "description": "Transparent PNG to lay over the whole image.",
            "content": {"image/png": {}},
        },
        **_problems(*_OF_A_SCREENING),
    },
)
def heatmap(
    screening: ClinicScreening,
    label: Annotated[
        str | None, Query(description="A class of the model; default: the most probable one.")
    ] = None,
) -> Response:
    """The regions that the prediction of a class is based on; it does not mark findings."""
    return Response(heatmap_of(screening, label or screening.label), media_type="image/png")


@router.post(
    "/screenings/{id}/review",
    status_code=HTTPStatus.CREATED,
    summary="Review a screening",
    responses=_problems(
        *_OF_A_SCREENING,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.INSUFFICIENT_STORAGE,
    ),
)
def add_review(
    current: CurrentServices,
    opened: CurrentSession,
    owner: CurrentClinic,
    screening: ClinicScreening,
    sent: ReviewIn,
) -> ReviewOut:
    """Confirm or correct the predicted class. The newest review counts."""
    made = review(
        opened,
        screening,
        owner,
        SentReview(**sent.model_dump()),
        choices=review_choices(screening, current.classifier.labels),
        signing_key=current.settings.signing_key,
    )
    return ReviewOut.of(made, screening)


@router.get(
    "/screenings/{id}/review",
    summary="Read the review",
    responses=_problems(*_OF_A_SCREENING),
)
def show_review(opened: CurrentSession, screening: ClinicScreening) -> ReviewOut:
    """The newest review of a screening."""
    found = newest_review(opened, screening.id)
    if found is None:
        raise NotFound("This screening has no review.")
    return ReviewOut.of(found, screening)


@router.delete(
    "/screenings/{id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete a screening",
    responses=_problems(*_OF_A_SCREENING),
)
def delete(
    current: CurrentServices,
    opened: CurrentSession,
    owner: CurrentClinic,
    screening: ClinicScreening,
) -> None:
    """Delete the image and its prediction."""
    current.screenings.delete(opened, screening, owner)
