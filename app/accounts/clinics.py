"""Clinics: made, listed, chosen by their name."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.tables import Clinic
from app.core.audit import AuditEvent
from app.core.errors import InvalidForm

LONGEST_CLINIC_NAME = 200


def list_clinics(session: Session) -> list[Clinic]:
    """All clinics by name."""
    return list(session.scalars(select(Clinic).order_by(Clinic.name)))


def clinic_named(session: Session, name: str) -> Clinic:
    """The clinic of a name, which is made where it is new; for the command line."""
    clinic = session.scalar(select(Clinic).where(Clinic.name == name))
    if clinic is None:
        clinic = Clinic(name=name)
        session.add(clinic)
        session.flush()
    return clinic


def chosen_clinic(session: Session, name: str) -> Clinic:
    """The clinic of a list; a mistyped name must not become another clinic.

    Raises:
        InvalidForm: there is no such clinic.
    """
    found = session.scalar(select(Clinic).where(Clinic.name == name))
    if found is None:
        raise InvalidForm({"clinic": "Choose a clinic from the list. Add it first if it is new."})
    return found


def create_clinic(session: Session, name: str, *, by: str) -> Clinic:
    """Make a clinic.

    Raises:
        InvalidForm: no name, one that is too long, or one that differs from another's in nothing
            but blanks and capitals.
    """
    name = " ".join(name.split())
    if not 0 < len(name) <= LONGEST_CLINIC_NAME:
        raise InvalidForm({"name": f"Enter a name of 1 to {LONGEST_CLINIC_NAME} characters."})
    if name.casefold() in {clinic.name.casefold() for clinic in list_clinics(session)}:
        raise InvalidForm({"name": "There is already a clinic with this name. Enter another name."})
    clinic = Clinic(name=name)
    session.add(clinic)
    session.flush()
    session.add(AuditEvent(actor=by, action="clinic.created", subject=str(clinic.id)))
    return clinic
