"""The REST API for clinics, under /api/v1."""

import uuid
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from app.deps import ClinicFilm, ClinicScreening, CurrentClinic, CurrentServices, CurrentSession
from app.errors import NotFound
from app.history import one_page
from app.models import Review, Screening
from app.reviews import LONGEST_PATIENT, LONGEST_WHY, newest_review, review
from app.uploads import BOUNDED_BY_READER
from app.views import REASONS
from ml.heatmap import render_heatmap, unpack_map
from ml.labels import LABELS

router = APIRouter(prefix="/api/v1", tags=["screenings"])

_EXAMPLE: dict[str, Any] = {
    "id": "0b9f1c1e-6f0c-4a53-9a0e-3c1f6a6f7f10",
    "created_at": "2026-11-22T18:22:00Z",
    "label": "pneumonia",
    "decision": "pneumonia",
    "reason": None,
    "explanation": None,
    "probabilities": {"covid": 0.031, "pneumonia": 0.946, "normal": 0.023},
    "novelty": 0.93,
    "model": {"version": "1", "sha256": "5f0c…", "url": "/models/5f0c…"},
    "film": {
        "sha256": "9a1b…",
        "format": "DICOM",
        "bits": 12,
        "width": 2048,
        "height": 2500,
        "metadata": {"Modality": "DX", "ViewPosition": "PA"},
    },
    "heatmap_url": "/api/v1/screenings/0b9f1c1e-6f0c-4a53-9a0e-3c1f6a6f7f10/heatmap.png",
    "timings_ms": {"wait": 0.0, "decode": 14.2, "predict": 9.8, "store": 0.6},
}


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["The film cannot be read"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["the JPEG file is damaged or cut short: export the film again"])
    code: str = Field(description="Stable word for programs.", examples=["damaged"])


class ModelOut(BaseModel):
    """The classifier that answered."""

    version: str
    sha256: str = Field(description="Of the classifier's ONNX graph.")
    url: str = Field(description="Page of its card.")


class FilmOut(BaseModel):
    """The film as it came."""

    sha256: str = Field(description="Of the uploaded bytes.")
    format: str
    bits: int = Field(description="Bits a pixel.")
    width: int
    height: int
    metadata: dict[str, str] = Field(description="Technical data by allow-list; never a name.")


class ScreeningOut(BaseModel):
    """The recorded answer to one film."""

    model_config = {"json_schema_extra": {"examples": [_EXAMPLE]}}

    id: uuid.UUID
    created_at: datetime
    label: str = Field(description="Most probable class: covid, pneumonia or normal.")
    decision: str = Field(description='The label, or "uncertain" where the model does not know.')
    reason: str | None = Field(description="low-confidence or unfamiliar-film, if uncertain.")
    explanation: str | None = Field(description="The reason in words.")
    probabilities: dict[str, float] = Field(description="Calibrated; they sum to 1.")
    novelty: float = Field(description="Distance from the training films; about 1 is usual.")
    model: ModelOut
    film: FilmOut
    heatmap_url: str
    timings_ms: dict[str, float]

    @classmethod
    def of(cls, row: Screening) -> "ScreeningOut":
        """Show a row."""
        return cls(
            id=row.id,
            created_at=row.created_at,
            label=row.label,
            decision=row.decision,
            reason=row.reason,
            explanation=REASONS.get(row.reason or ""),
            probabilities=row.probabilities,
            novelty=row.novelty,
            model=ModelOut(
                version=row.model_version,
                sha256=row.model_sha256,
                url=f"/models/{row.model_sha256}",
            ),
            film=FilmOut(
                sha256=row.film_sha256,
                format=row.film_format,
                bits=row.film_bits,
                width=row.film_width,
                height=row.film_height,
                metadata=row.film_metadata,
            ),
            heatmap_url=f"/api/v1/screenings/{row.id}/heatmap.png",
            timings_ms=row.timings,
        )


class ReviewIn(BaseModel):
    """What a film shows, from somebody who knows."""

    model_config = {
        "json_schema_extra": {
            "examples": [
                {"label": "covid", "why": "PCR positive on the same day", "patient": "P-10482"}
            ]
        }
    }

    label: str = Field(max_length=50, description="What is right: covid, pneumonia or normal.")
    why: str = Field(
        "",
        max_length=LONGEST_WHY,
        description="In plain words, without names; needed where the model is corrected.",
    )
    patient: str = Field(
        "",
        max_length=LONGEST_PATIENT,
        description="Your code of the patient. Only a keyed hash is kept, by which films of one "
        "patient stay together in data sets.",
    )


class ReviewOut(BaseModel):
    """The review that holds."""

    screening: uuid.UUID
    created_at: datetime
    by: str = Field(description="The user, or the clinic whose key was sent.")
    label: str
    confirms: bool = Field(description="Whether it is the label that the model gave.")
    why: str

    @classmethod
    def of(cls, row: Review, screening: Screening) -> "ReviewOut":
        """Show a row."""
        return cls(
            screening=row.screening_id,
            created_at=row.created_at,
            by=row.by,
            label=row.label,
            confirms=row.label == screening.label,
            why=row.why,
        )


class ScreeningPage(BaseModel):
    """One page of a clinic's screenings, newest first."""

    screenings: list[ScreeningOut]
    next: str | None = Field(description="Address of the next page; null on the last.")


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
)

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["film"],
                    "properties": {
                        "film": {
                            "type": "string",
                            "format": "binary",
                            "description": "A chest film: PNG, JPEG, TIFF, WebP or DICOM.",
                        }
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
    summary="Answer a film",
    max_body_size=BOUNDED_BY_READER,
    responses=_problems(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
    openapi_extra=_FORM,
)
def create(
    response: Response, current: CurrentServices, owner: CurrentClinic, film: ClinicFilm
) -> ScreeningOut:
    """Send one film in the multipart field `film`. The answer is recorded before it is sent."""
    row = current.screener.screen(film.file, owner)
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
    before: Annotated[
        str | None, Query(max_length=100, description="From `next` of the page before.")
    ] = None,
) -> ScreeningPage:
    """The clinic's screenings, newest first."""
    rows, following = one_page(opened, owner, before)
    return ScreeningPage(
        screenings=[ScreeningOut.of(row) for row in rows],
        next=f"/api/v1/screenings?before={following}" if following else None,
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
    summary="Draw the heat map",
    response_class=Response,
    responses={
        200: {
            "description": "Transparent PNG to lay over the whole film.",
            "content": {"image/png": {}},
        },
        **_problems(*_OF_A_SCREENING),
    },
)
def heatmap(
    screening: ClinicScreening,
    label: Annotated[
        str | None, Query(description=f"One of {', '.join(LABELS)}; default: the most probable.")
    ] = None,
) -> Response:
    """Where the model's evidence for a class lies: its attention, not a finding."""
    wanted = label or screening.label
    if wanted not in LABELS:
        raise NotFound(f"no class {wanted!r}: expected one of {', '.join(LABELS)}")
    picture = render_heatmap(unpack_map(screening.activation_map), LABELS.index(wanted))
    return Response(picture, media_type="image/png")


@router.post(
    "/screenings/{id}/review",
    status_code=HTTPStatus.CREATED,
    summary="Review a screening",
    responses=_problems(*_OF_A_SCREENING),
)
def add_review(
    current: CurrentServices,
    opened: CurrentSession,
    owner: CurrentClinic,
    screening: ClinicScreening,
    sent: ReviewIn,
) -> ReviewOut:
    """Confirm or correct the answer. The newest review of a screening holds."""
    made = review(
        opened,
        screening,
        owner,
        **sent.model_dump(),
        signing_key=current.settings.signing_key,
    )
    return ReviewOut.of(made, screening)


@router.get(
    "/screenings/{id}/review",
    summary="Read the review",
    responses=_problems(*_OF_A_SCREENING),
)
def show_review(opened: CurrentSession, screening: ClinicScreening) -> ReviewOut:
    """The newest review of a screening, whoever of the clinic made it."""
    found = newest_review(opened, screening.id)
    if found is None:
        raise NotFound("nobody has reviewed this screening")
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
    """Remove the film and its answer."""
    current.screener.delete(opened, screening, owner)
