"""Several screenings of the list at once: delete them, or review them alike."""

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.accounts.dependencies import ActingUser, SignedIn
from app.accounts.owner import Owner
from app.core.errors import Conflict, InvalidForm, InvalidUpload, NotFound
from app.core.templating import page
from app.screenings.dependencies import Visitor, WritingVisitor
from app.screenings.filters import Filtered
from app.screenings.lists import summaries
from app.screenings.queries import owned_screenings
from app.screenings.reviews import (
    LONGEST_FINDING,
    LONGEST_WHY,
    SentReview,
    newest_review,
    review_all,
    review_choices,
    review_id,
)
from app.screenings.tables import Screening
from app.services import CurrentServices, CurrentSession, Services
from ml.labels import label_name, ordered_labels
from ml.texts import msg

router = APIRouter(include_in_schema=False, prefix="/selection")
MOST = 200
Ids = Annotated[list[uuid.UUID], Field(max_length=MOST)]


class DeletionForm(BaseModel):
    """The screenings to delete."""

    id: Ids


class SelectionReviewForm(BaseModel):
    """A review of several screenings; `SentReview` says what the fields mean.

    Attributes:
        id: of the screenings.
        seen: as many, in the same order.
    """

    id: Ids
    seen: Annotated[list[str], Field(max_length=MOST)]
    label: str = Field(default="", max_length=50)
    why: str = Field(default="", max_length=10_000)
    finding: str = Field(default="", max_length=1_000)


def selected(
    opened: CurrentSession,
    owner: Visitor,
    id: Annotated[list[uuid.UUID] | None, Query(max_length=MOST)] = None,
) -> list[Screening]:
    """The screenings in an address that are this visitor's.

    Raises:
        InvalidUpload: none is selected.
        NotFound: none of them is there.
    """
    return _found(opened, id or [], owner)


Selected = Annotated[list[Screening], Depends(selected)]


@router.get("/delete")
def ask_to_delete(
    request: Request, opened: CurrentSession, rows: Selected, chosen: Filtered
) -> HTMLResponse:
    """What would be deleted."""
    return page(
        request,
        "screenings/delete_selected.html",
        screenings=summaries(opened, rows, request.state.user),
        action=chosen.address("/selection/delete"),
        list_url=chosen.address("/screenings"),
    )


@router.post("/delete")
def delete(
    current: CurrentServices,
    opened: CurrentSession,
    owner: WritingVisitor,
    chosen: Filtered,
    form: Annotated[DeletionForm, Form()],
) -> RedirectResponse:
    """Delete them in one transaction; what is gone already is reported."""
    wanted = set(form.id)
    deleted = current.screenings.delete_all(opened, wanted, owner)
    done = {"deleted": deleted, "missing": len(wanted) - deleted}
    return RedirectResponse(chosen.address("/screenings", **done), HTTPStatus.SEE_OTHER)


@router.get("/review")
def ask_for_review(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    _user: SignedIn,
    rows: Selected,
    chosen: Filtered,
) -> HTMLResponse:
    """The form in which a user says the same of several images."""
    list_url, action = chosen.address("/screenings"), chosen.address("/selection/review")
    return _review_page(request, current, opened, rows, list_url=list_url, action=action)


def _review_page(
    request: Request,
    current: Services,
    opened: Session,
    rows: list[Screening],
    status: HTTPStatus = HTTPStatus.OK,
    **about: object,
) -> HTMLResponse:
    shown = summaries(opened, rows, request.state.user)
    return page(
        request,
        "screenings/review_selected.html",
        status,
        screenings=shown,
        seen={str(row.id): review_id(newest_review(opened, row.id)) for row in rows},
        labels={label: label_name(label) for label in _choices(rows, current)},
        predicted=rows[0].label if len({row.label for row in rows}) == 1 else None,
        longest_why=LONGEST_WHY,
        longest_finding=LONGEST_FINDING,
        **{"faults": {}, "typed": {}} | about,
    )


def _choices(rows: list[Screening], current: Services) -> tuple[str, ...]:
    """What can be said of each of them."""
    known = ordered_labels({label for row in rows for label in row.probabilities})
    return review_choices(rows[0], [*known, *current.classifier.labels])


@router.post("/review")
def review(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    user: ActingUser,
    owner: WritingVisitor,
    chosen: Filtered,
    form: Annotated[SelectionReviewForm, Form()],
) -> Response:
    """Review all of them or, where one cannot be reviewed so, none."""
    rows = _found(opened, form.id, owner)
    seen = dict(zip(form.id, form.seen, strict=False))
    try:
        review_all(
            opened,
            {row: seen.get(row.id) for row in rows},
            user,
            SentReview(form.label, form.why, finding=form.finding),
            choices=_choices(rows, current),
            signing_key=current.settings.signing_key,
        )
    except (InvalidForm, Conflict) as refused:
        faults = refused.faults if isinstance(refused, InvalidForm) else {"stale": _STALE}
        return _review_page(
            request,
            *(current, opened, rows, refused.status),
            faults=faults,
            typed=form.model_dump(exclude={"id", "seen"}),
            list_url=chosen.address("/screenings"),
            action=chosen.address("/selection/review"),
        )
    done = {"marked": len(rows), "missing": len(set(form.id)) - len(rows)}
    return RedirectResponse(chosen.address("/screenings", **done), HTTPStatus.SEE_OTHER)


_STALE = msg(
    "Another review of one of these images was saved in the meantime, and none "
    "of yours was. Look at the images again, and send your review if it still "
    "holds."
)


def _found(session: Session, ids: list[uuid.UUID], owner: Owner) -> list[Screening]:
    if not ids:
        raise InvalidUpload(msg("No screening is selected. Go back and select at least one."))
    rows = owned_screenings(session, set(ids), owner)
    if not rows:
        raise NotFound(msg("These screenings do not exist, or you have no access to them."))
    return rows
