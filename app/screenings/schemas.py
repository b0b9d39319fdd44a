"""What the REST API accepts and returns for screenings and reviews."""

import uuid
from datetime import datetime
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from app.core.addresses import Address
from app.core.language import percent_text, translated
from app.screenings.reviews import LONGEST_FINDING, LONGEST_PATIENT, LONGEST_WHY
from app.screenings.tables import Review, Screening
from app.screenings.thresholds import why_uncertain
from app.screenings.views import REASONS, TRIAL_NOTICE, why_no_map
from ml.classifier.card import Thresholds
from ml.classifier.predictor import decision_name
from ml.imaging.heatmap_check import MapFault, map_fault
from ml.imaging.image_warnings import ImageWarning, read_warnings
from ml.labels import label_name

_ADDRESS = "/api/v1/screenings/0b9f1c1e-6f0c-4a53-9a0e-3c1f6a6f7f10"
_EXAMPLE: dict[str, JsonValue] = {
    "id": "0b9f1c1e-6f0c-4a53-9a0e-3c1f6a6f7f10",
    "created_at": "2026-11-22T18:22:00Z",
    "reference": "study 4711",
    "label": "pneumonia",
    "decision": "pneumonia",
    "reason": None,
    "explanation": None,
    "probabilities": {"covid": 0.031, "pneumonia": 0.946, "normal": 0.023},
    "ood_score": 0.93,
    "model": {"version": "1", "sha256": "5f0c…", "url": "/models/5f0c…"},
    "threshold_version": None,
    "image": {
        "sha256": "9a1b…",
        "format": "DICOM",
        "bits": 12,
        "width": 2048,
        "height": 2500,
        "metadata": {"Modality": "DX", "ViewPosition": "PA"},
    },
    "page_url": "/screenings/0b9f1c1e-6f0c-4a53-9a0e-3c1f6a6f7f10",
    "heatmap_url": f"{_ADDRESS}/heatmap.png",
    "heatmaps": {
        "covid": {
            "url": None,
            "share_on_lungs": 0.312,
            "reason": "outside-lungs",
            "explanation": "There is no heat map for COVID-19: 31.2 % of its evidence lies on "
            "the lungs, and below 50.0 % a map explains nothing.",
        },
        "pneumonia": {
            "url": f"{_ADDRESS}/heatmap.png?label=pneumonia",
            "share_on_lungs": 0.974,
            "reason": None,
            "explanation": None,
        },
    },
    "timings_ms": {"wait": 0.0, "decode": 14.2, "predict": 9.8, "store": 0.6},
    "warnings": [
        {
            "code": "rotated",
            "parameters": {"degrees": "90"},
            "text": ImageWarning("rotated", {"degrees": "90"}).text,
        }
    ],
    "warning": None,
}


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["The image cannot be read"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["The JPEG file is damaged or cut short. Export the image again."])
    code: str = Field(description="Stable code for programs.", examples=["damaged"])
    request_id: str = Field(
        description="Also in the header X-Request-ID; names the request in the server's log.",
        examples=["6f1c0f3f0b7a4c0f9d0e2f8c5a3b1d77"],
    )


class ModelOut(BaseModel):
    """The model version that made the prediction."""

    version: str
    sha256: str = Field(description="Of the classifier's ONNX graph.")
    url: Address = Field(description="Page of its card.")


class ImageOut(BaseModel):
    """The uploaded image."""

    sha256: str = Field(description="Of the uploaded bytes.")
    format: str
    bits: int = Field(description="Bits a pixel.")
    width: int
    height: int
    metadata: dict[str, str] = Field(description="Technical data by allow-list; never a name.")


class WarningOut(BaseModel):
    """What has to be said of an image."""

    code: str = Field(description="Stable code for programs.", examples=["rotated"])
    parameters: dict[str, str] = Field(
        description="Values of this image.", examples=[{"degrees": "90"}]
    )
    text: str = Field(description="The warning in sentences.")

    @classmethod
    def of(cls, warning: ImageWarning) -> "WarningOut":
        """Show a warning."""
        return cls(code=warning.code, parameters=dict(warning.parameters), text=warning.text)


class HeatmapOut(BaseModel):
    """The heat map of a class."""

    url: Address | None = Field(description="Null where the map is not shown.")
    share_on_lungs: float | None = Field(
        description="Share of the evidence in the box around the lungs; null where no lungs were "
        "found, nothing speaks for the class, or the map is of before it was checked."
    )
    reason: MapFault | None = Field(description="Why the map is not shown.")
    explanation: str | None = Field(description="The reason in words.")

    @classmethod
    def of(cls, row: Screening, label: str) -> "HeatmapOut":
        """Show the map of a class."""
        fault = map_fault(row.heatmap_shares, label)
        url = f"/api/v1/screenings/{row.id}/heatmap.png?label={quote(label)}"
        return cls(
            url=None if fault else url,
            share_on_lungs=(row.heatmap_shares or {}).get(label),
            reason=fault,
            explanation=why_no_map(row, label) or None,
        )


class ScreeningOut(BaseModel):
    """An image and its prediction."""

    model_config = {"json_schema_extra": {"examples": [_EXAMPLE]}}

    id: uuid.UUID
    created_at: datetime
    reference: str | None = Field(description="The sender's own name of the image.")
    label: str = Field(description="Most probable class of the model, such as covid.")
    decision: str = Field(description='The label, or "uncertain" when the model abstains.')
    reason: str | None = Field(
        description="Why the model abstains, if uncertain.",
        json_schema_extra={"anyOf": [{"enum": list(REASONS)}, {"type": "null"}]},
    )
    explanation: str | None = Field(description="The reason in words.")
    probabilities: dict[str, float] = Field(description="Calibrated; they sum to 1.")
    ood_score: float = Field(description="Distance from the training images; about 1 is usual.")
    model: ModelOut
    threshold_version: int | None = Field(
        description="Version of the clinic's own thresholds that decided; null: the model's."
    )
    image: ImageOut
    page_url: Address = Field(description="The page for people; sign in to open it.")
    heatmap_url: Address | None = Field(
        description="Of the label's heat map; null where the map is not shown."
    )
    heatmaps: dict[str, HeatmapOut] = Field(description="By class: the map, or why there is none.")
    timings_ms: dict[str, float]
    warnings: list[WarningOut] = Field(
        description="What the file's header or the picture itself puts in doubt; mostly empty."
    )
    warning: str | None = Field(
        description="Set if a classifier for trials made the prediction: do not use it."
    )

    @classmethod
    def of(cls, row: Screening) -> "ScreeningOut":
        """Show a row."""
        return cls(
            id=row.id,
            created_at=row.created_at,
            reference=row.reference,
            label=row.label,
            decision=row.decision,
            reason=row.reason,
            explanation=REASONS.get(row.reason or ""),
            probabilities=row.probabilities,
            ood_score=row.ood_score,
            model=ModelOut(
                version=row.model_version,
                sha256=row.model_sha256,
                url=f"/models/{row.model_sha256}",
            ),
            threshold_version=row.clinic_thresholds.version if row.clinic_thresholds else None,
            image=ImageOut(
                sha256=row.image_sha256,
                format=row.image_format,
                bits=row.image_bits,
                width=row.image_width,
                height=row.image_height,
                metadata=row.image_metadata,
            ),
            page_url=f"/screenings/{row.id}",
            heatmap_url=None
            if map_fault(row.heatmap_shares, row.label)
            else f"/api/v1/screenings/{row.id}/heatmap.png",
            heatmaps={label: HeatmapOut.of(row, label) for label in row.probabilities},
            timings_ms=row.timings,
            warnings=[WarningOut.of(warning) for warning in read_warnings(row.warnings)],
            warning=TRIAL_NOTICE if row.is_trial else None,
        )


class UploadResult(BaseModel):
    """A new screening, for the script of the upload page."""

    id: uuid.UUID
    url: Address
    label: str
    label_name: str
    decision: str
    decision_name: str
    probabilities: dict[str, float]
    confidence: str  # as in lists: the probability, or why the model abstains
    thumbnail_url: Address
    warnings: list[str]

    @classmethod
    def of(cls, row: Screening, thresholds: Thresholds) -> "UploadResult":
        """Show a row in the language of the page; the thresholds are those that decided."""
        return cls(
            id=row.id,
            url=f"/screenings/{row.id}",
            label=row.label,
            label_name=translated(label_name(row.label)),
            decision=row.decision,
            decision_name=translated(decision_name(row.decision)),
            probabilities=row.probabilities,
            confidence=translated(why_uncertain(row, thresholds))
            or percent_text(max(row.probabilities.values())),
            thumbnail_url=f"/screenings/{row.id}/thumbnail",
            warnings=[translated(warning.text) for warning in read_warnings(row.warnings)],
        )


class ReviewIn(BaseModel):
    """What an image shows, from somebody who knows."""

    model_config = {
        "json_schema_extra": {
            "examples": [
                {"label": "covid", "why": "PCR positive on the same day", "patient": "P-10482"}
            ]
        }
    }

    label: str = Field(
        max_length=50,
        description="What is right: a class of the model that predicted or of the active one, or "
        "other-finding, not-readable or not-frontal, which are never used to train a model.",
    )
    finding: str = Field(
        "",
        max_length=LONGEST_FINDING,
        description="What the image shows, in plain words; needed with other-finding.",
    )
    why: str = Field(
        "",
        max_length=LONGEST_WHY,
        description="In plain words, without names; needed where the model is corrected.",
    )
    patient: str = Field(
        "",
        max_length=LONGEST_PATIENT,
        description="Your code of the patient. Only a keyed hash is stored, by which images of one "
        "patient stay together in data sets.",
    )
    seen: str | None = Field(
        None,
        max_length=40,
        description='The `id` of the review that you have seen, or "none" if there was none: '
        "if another one was saved since, the answer is 409.",
    )


class ReviewOut(BaseModel):
    """The review that holds."""

    id: uuid.UUID
    screening: uuid.UUID
    created_at: datetime
    by: str = Field(description="The user, or the clinic whose key was sent.")
    label: str
    confirms: bool = Field(description="Whether it is the label that the model gave.")
    finding: str = Field(description="What the image shows, if the label is other-finding.")
    why: str

    @classmethod
    def of(cls, row: Review, screening: Screening) -> "ReviewOut":
        """Show a row."""
        return cls(
            id=row.id,
            screening=row.screening_id,
            created_at=row.created_at,
            by=row.by,
            label=row.label,
            confirms=row.label == screening.label,
            finding=row.finding,
            why=row.why,
        )


class ScreeningPage(BaseModel):
    """One page of a clinic's screenings, newest first."""

    screenings: list[ScreeningOut]
    next: Address | None = Field(description="Address of the next page; null on the last.")
