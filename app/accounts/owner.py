"""The owner of screenings: a clinic, or a visitor by cookie."""

import hashlib
import uuid
from dataclasses import dataclass

from app.screenings.tables import Screening


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a screening is: a visitor of the pages or a clinic of the API."""

    visitor_id: str | None = None
    clinic_id: uuid.UUID | None = None

    @property
    def actor(self) -> str:
        """The owner's name in the audit log. Of a visitor only a hash: the id is a credential."""
        if self.clinic_id:
            return f"clinic:{self.clinic_id}"
        return f"visitor:{hashlib.sha256((self.visitor_id or '').encode()).hexdigest()[:16]}"

    def owns(self, screening: Screening) -> bool:
        """Whether the screening is this owner's."""
        if self.clinic_id:
            return screening.clinic_id == self.clinic_id
        return bool(self.visitor_id) and screening.visitor_id == self.visitor_id
