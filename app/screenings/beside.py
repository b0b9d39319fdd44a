"""Another image beside that of a screening: a prior one of the same reference, or a neighbour."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy.orm import Session

from app.accounts.owner import Owner
from app.core.errors import NotFound
from app.screenings.queries import owned_screenings, with_reference
from app.screenings.tables import Screening
from ml.classifier.predictor import decision_name


@dataclass(frozen=True, slots=True)
class OtherImage:
    """An image that can be shown beside.

    Attributes:
        is_same: whether it has the same reference.
    """

    id: str
    url: str
    image_url: str
    width: int
    height: int
    reference: str
    created_at: datetime
    decision: str
    decision_name: str
    is_same: bool

    @classmethod
    def of(cls, row: Screening, beside: Screening) -> Self:
        """Show a row beside another one."""
        return cls(
            id=str(row.id),
            url=f"/screenings/{row.id}",
            image_url=f"/screenings/{row.id}/image",
            width=row.image_width,
            height=row.image_height,
            reference=row.reference or "",
            created_at=row.created_at,
            decision=row.decision,
            decision_name=decision_name(row.decision),
            is_same=bool(row.reference) and row.reference == beside.reference,
        )


@dataclass(frozen=True, slots=True)
class Beside:
    """What can be shown beside an image, and what is.

    Attributes:
        choices: those of the same reference, newest first, then the neighbours in the list.
        shown: the one that is shown; None: none.
    """

    choices: list[OtherImage]
    shown: OtherImage | None


def find_beside(
    session: Session,
    owner: Owner,
    row: Screening,
    neighbours: Sequence[uuid.UUID],
    wanted: uuid.UUID | None,
) -> Beside:
    """The other images for the page of a screening.

    Args:
        session: the database.
        owner: of all of them.
        row: the screening of the page.
        neighbours: in the filtered list.
        wanted: the image to show beside.

    Raises:
        NotFound: there is no such screening, or it is another owner's.
    """
    found = {one.id: one for one in with_reference(session, owner, row)}
    others = [one for one in (*neighbours, wanted) if one and one not in found and one != row.id]
    found |= {one.id: one for one in owned_screenings(session, others, owner)}
    if wanted and wanted not in found:
        raise NotFound("The image to compare with does not exist, or you have no access to it.")
    choices = [OtherImage.of(one, row) for one in found.values()]
    shown = next((one for one in choices if one.id == str(wanted)), None)
    return Beside(choices, shown)
